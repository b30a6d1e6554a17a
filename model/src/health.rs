//! Signs that training goes wrong: a loss far above its neighbours.

/// Losses that are compared with.
const WINDOW: usize = 128;
/// Standard deviations above their mean from which a loss is a spike.
pub const SPIKE: f64 = 6.0;

/// The losses of the last 128 steps.
#[derive(Clone, Debug, Default)]
pub struct Spikes {
    losses: Vec<f64>,
    next: usize,
}

impl Spikes {
    /// How many standard deviations `loss` lies above the mean of the 128 before it; `None` while there are fewer. From then on it is
    /// one of them, unless it is not finite.
    pub fn z(&mut self, loss: f64) -> Option<f64> {
        if !loss.is_finite() {
            return None;
        }
        if self.losses.len() < WINDOW {
            self.losses.push(loss);
            return None;
        }
        let n = WINDOW as f64;
        let mean = self.losses.iter().sum::<f64>() / n;
        let variance = self.losses.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        self.losses[self.next] = loss;
        self.next = (self.next + 1) % WINDOW;
        // Equal losses have none: a difference of rounding is then no spike.
        let deviation = variance.sqrt().max(1e-6 * mean.abs()).max(f64::MIN_POSITIVE);
        Some((loss - mean) / deviation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_is_far_above_the_last_128() {
        let mut spikes = Spikes::default();
        // Mean 2, deviation 0.1.
        let loss = |i: usize| if i.is_multiple_of(2) { 1.9 } else { 2.1 };
        for i in 0..WINDOW {
            assert_eq!(spikes.z(loss(i)), None, "step {i}");
        }
        assert!((spikes.z(2.0).unwrap()).abs() < 1e-9);
        let z = spikes.z(2.7).unwrap();
        assert!((6.9..7.1).contains(&z) && z > SPIKE, "{z}");
        assert_eq!(spikes.z(f64::NAN), None);
        // The old ones are forgotten.
        for _ in 0..WINDOW {
            spikes.z(9.0);
        }
        assert!(spikes.z(9.0).unwrap().abs() < SPIKE);
        assert!(spikes.z(9.1).unwrap() > SPIKE);
    }
}
