//! What all benches share: threads, and operations as a fraction of the machine's peak.

use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput};
use weft_tensor::peak::fma_gflops;
use weft_tensor::simd;

/// Wall time; a throughput in elements is read as floating-point operations and shown as a fraction of the FMA peak
/// that was measured in this process.
pub(crate) struct OfPeak {
    time: WallTime,
    formatter: Formatter,
}

impl Measurement for OfPeak {
    type Intermediate = <WallTime as Measurement>::Intermediate;
    type Value = Duration;

    fn start(&self) -> Self::Intermediate {
        self.time.start()
    }
    fn end(&self, start: Self::Intermediate) -> Duration {
        self.time.end(start)
    }
    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        self.time.add(a, b)
    }
    fn zero(&self) -> Duration {
        self.time.zero()
    }
    fn to_f64(&self, value: &Duration) -> f64 {
        self.time.to_f64(value)
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        &self.formatter
    }
}

struct Formatter {
    /// Operations per nanosecond.
    peak: f64,
}

impl ValueFormatter for Formatter {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(&self, typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        let Throughput::Elements(operations) = *throughput else {
            return WallTime.formatter().scale_throughputs(typical, throughput, values);
        };
        for value in values {
            *value = 100.0 * operations as f64 / *value / self.peak;
        }
        "% of peak"
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}

/// Runs `bench` on a thread of the pool, as training does: entering the pool would be measured with every call. It has as
/// many threads as `RAYON_NUM_THREADS` says, or all.
pub(crate) fn run(bench: fn(&mut Criterion<OfPeak>)) {
    rayon::scope(|_| {
        let threads = rayon::current_num_threads();
        let peak = fma_gflops(threads);
        eprintln!("{}, {threads} threads: FMA peak {peak:.0} GFLOP/s", simd::level().name());
        let mut criterion = Criterion::default()
            .with_measurement(OfPeak { time: WallTime, formatter: Formatter { peak } })
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(3))
            .configure_from_args();
        bench(&mut criterion);
        criterion.final_summary();
    });
}
