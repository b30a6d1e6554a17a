//! Operations on views of any layout against element-by-element oracles, at every SIMD level.

use rand::{Rng, RngExt};
use weft_tensor::random::{Purpose, Random};
use weft_tensor::simd::at_every_level;
use weft_tensor::strided::{self, Binary, Layout};
use weft_tensor::{Grad, Shape, ShapeError, View};

/// Sums of up to 5000 numbers below 2 in size, in another order than the oracle's: far more than they differ by.
const TOLERANCE: f64 = 2e-3;

/// Memory and a way to look at it.
struct Array {
    data: Vec<f32>,
    layout: Layout,
}

impl Array {
    fn view(&self) -> View<'_, f32> {
        self.layout.view(&self.data)
    }
}

/// A random array of rank 0 to 5, sliced, transposed, permuted, stretched.
fn array(random: &mut impl Rng) -> Array {
    let rank = [0, 1, 2, 2, 3, 3, 4, 5][random.random_range(0..8)];
    let sizes: Vec<usize> = (0..rank)
        .map(|_| {
            [0, 1, 2, 2, 3, 3, 4, 5, 7, 17, 18, 33][random.random_range(0..if rank > 3 { 8 } else { 12 })]
        })
        .collect();
    let shape = Shape::new(&sizes);
    let data = (0..shape.elements()).map(|_| random.random_range(-2.0..2.0)).collect();
    let mut layout = Layout::contiguous(shape);
    for _ in 0..random.random_range(0..6) {
        let rank = layout.shape.rank();
        let axis = random.random_range(0..=rank);
        layout = match random.random_range(0..5) {
            0 if rank < 5 => layout.unsqueeze(axis).unwrap(),
            1 if axis < rank => layout.transpose(axis, random.random_range(0..rank)).unwrap(),
            2 | 3 if axis < rank => {
                // Rarely empty.
                let size = layout.shape[axis];
                let start = random.random_range(0..=size / 2);
                layout.slice(axis, start..random.random_range(size.div_ceil(2)..=size)).unwrap()
            }
            _ => {
                let mut sizes = layout.shape.to_vec();
                sizes
                    .iter_mut()
                    .filter(|size| **size == 1)
                    .for_each(|size| *size = random.random_range(0..4));
                layout.broadcast_to(Shape::new(&sizes)).unwrap()
            }
        };
    }
    Array { data, layout }
}

/// Every index of a shape in row-major order.
fn indices(shape: &Shape) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![vec![]], |indices, &size| {
        let extend = |index: &Vec<usize>| {
            let index = index.clone();
            (0..size).map(move |i| [&index[..], &[i]].concat()).collect::<Vec<_>>()
        };
        indices.iter().flat_map(extend).collect()
    })
}

fn at(x: &View<'_, f32>, index: &[usize]) -> f32 {
    x.data[index.iter().zip(x.strides).map(|(i, stride)| i * stride).sum::<usize>()]
}

/// The element of a smaller array that broadcasting puts at `index`.
fn stretched(x: &View<'_, f32>, index: &[usize]) -> f32 {
    let tail = &index[index.len() - x.shape.rank()..];
    at(x, &tail.iter().zip(x.shape.iter()).map(|(i, size)| i % size).collect::<Vec<_>>())
}

fn elements(x: &View<'_, f32>) -> Vec<f32> {
    indices(&x.shape).iter().map(|index| at(x, index)).collect()
}

/// Runs `check` on many seeded generators, at every level, and says which seed failed.
fn for_seeds(count: u32, check: impl Fn(&mut Random)) {
    at_every_level(|level| {
        for seed in 0..count {
            let run = || check(&mut Random::new(seed.into(), Purpose::Test, 0, 0));
            if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
                eprintln!("seed {seed} at level {level:?}");
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// Runs `f` on memory that holds NaN (overwrite) and on memory that holds 0.5 (add): both must give `expected`.
#[track_caller]
fn check_grad(expected: &[f64], mut f: impl FnMut(Grad<'_, f32>)) {
    for (add, before) in [(false, f32::NAN), (true, 0.5)] {
        let mut out = vec![before; expected.len()];
        f(Grad { data: &mut out, add });
        let base = if add { 0.5 } else { 0.0 };
        let close = |(y, want): (&f32, &f64)| {
            let difference = (f64::from(*y) - base - want).abs();
            difference <= TOLERANCE || (y.is_nan() && want.is_nan())
        };
        assert!(out.iter().zip(expected).all(close), "add {add}: {out:?} is not {expected:?}");
    }
}

fn f64s(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

#[test]
fn copies_follow_any_layout() {
    for_seeds(300, |random| {
        let x = array(random);
        check_grad(&f64s(&elements(&x.view())), |out| strided::copy(x.view(), out));
    });
}

#[test]
fn arithmetic_broadcasts_any_layouts() {
    for_seeds(200, |random| {
        let a = array(random);
        // The other operand misses leading dimensions and repeats some of size 1.
        let shape = a.view().shape;
        let missing = random.random_range(0..=shape.rank());
        let sizes: Vec<usize> =
            shape[missing..].iter().map(|&size| if random.random_bool(0.4) { 1 } else { size }).collect();
        let shape_b = Shape::new(&sizes);
        let data: Vec<f32> = (0..shape_b.elements()).map(|_| random.random_range(-2.0..2.0)).collect();
        let (a, b) = (a.view(), View::new(&data, shape_b));
        for kind in Binary::ALL {
            let f = |x: f32, y: f32| match kind {
                Binary::Add => x + y,
                Binary::Sub => x - y,
                Binary::Mul => x * y,
                Binary::Div => x / y,
                Binary::Max => x.max(y),
                Binary::Min => x.min(y),
                Binary::Less => f32::from(x < y),
                Binary::Equal => f32::from(x == y),
            };
            // A quotient may be large, and then what is added to it rounds.
            let bounded = |x: f32| if x.abs() < 1e3 { f64::from(x) } else { f64::NAN };
            let both = |index: &Vec<usize>| (at(&a, index), stretched(&b, index));
            let pairs: Vec<(f32, f32)> = indices(&shape).iter().map(both).collect();
            if kind == Binary::Div
                && pairs.iter().any(|&(x, y)| bounded(f(x, y)).is_nan() || bounded(f(y, x)).is_nan())
            {
                continue;
            }
            let forth: Vec<f64> = pairs.iter().map(|&(x, y)| f(x, y).into()).collect();
            let back: Vec<f64> = pairs.iter().map(|&(x, y)| f(y, x).into()).collect();
            check_grad(&forth, |out| strided::binary(kind, a, b, out));
            check_grad(&back, |out| strided::binary(kind, b, a, out));
            // The other operand with a's very layout.
            let same: Vec<f64> = pairs.iter().map(|&(x, _)| f(x, x).into()).collect();
            check_grad(&same, |out| strided::binary(kind, a, a, out));
        }
    });
}

#[test]
fn nan_is_neither_less_nor_equal() {
    let nan = View::scalar(&f32::NAN);
    let one = View::scalar(&1.0);
    for (kind, a, b, expected) in [
        (Binary::Less, nan, one, 0.0),
        (Binary::Less, one, nan, 0.0),
        (Binary::Equal, nan, nan, 0.0),
        (Binary::Equal, nan, one, 0.0),
        (Binary::Equal, one, nan, 0.0),
        (Binary::Equal, one, one, 1.0),
    ] {
        let mut y = [9.0];
        strided::binary(kind, a, b, Grad { data: &mut y, add: false });
        assert_eq!(y, [expected], "{kind:?} of {:?} and {:?}", a.data, b.data);
    }
}

#[test]
fn select_takes_from_a_where_the_mask_is_not_zero() {
    for_seeds(100, |random| {
        let a = array(random);
        let a = a.view();
        let mask: Vec<f32> = (0..a.shape.last())
            .map(|_| [0.0, -0.0, 1.0, -3.0, f32::NAN][random.random_range(0..5)])
            .collect();
        let mask = View::new(&mask, if a.shape.rank() == 0 { Shape::SCALAR } else { [mask.len()].into() });
        let b = View::scalar(&7.0);
        let pick =
            |index: &Vec<usize>| if stretched(&mask, index) != 0.0 { at(&a, index).into() } else { 7.0 };
        let expected: Vec<f64> = indices(&a.shape).iter().map(pick).collect();
        check_grad(&expected, |out| strided::select(mask, a, b, out));
    });
}

/// The elements that share each kept index, in order.
fn groups(x: &View<'_, f32>, axes: &[usize]) -> Vec<Vec<f64>> {
    let shape = strided::reduced_shape("test", &x.shape, axes, true).unwrap();
    let mut groups = vec![vec![]; shape.elements()];
    for index in indices(&x.shape) {
        let place = (0..index.len())
            .filter(|axis| !axes.contains(axis))
            .fold(0, |n, axis| n * shape[axis] + index[axis]);
        groups[place].push(f64::from(at(x, &index)));
    }
    groups
}

#[test]
fn reductions_agree_with_the_oracle_over_any_axes() {
    for_seeds(300, |random| {
        let x = array(random);
        let x = x.view();
        let axes: Vec<usize> = (0..x.shape.rank()).filter(|_| random.random_bool(0.5)).collect();
        let groups = groups(&x, &axes);
        let sums: Vec<f64> = groups.iter().map(|group| group.iter().sum()).collect();
        check_grad(&sums, |out| strided::sum(x, &axes, out));
        let keepdim = strided::reduced_shape("test", &x.shape, &axes, true).unwrap();
        check_grad(&sums, |out| strided::sum_to(x, keepdim, out));
        let mean = |group: &Vec<f64>| group.iter().sum::<f64>() / group.len() as f64;
        let means: Vec<f64> = groups.iter().map(mean).collect();
        let overwrite = |f: &dyn Fn(&mut [f32]), expected: &[f64]| {
            let mut out = vec![f32::NAN; expected.len()];
            f(&mut out);
            check_grad(expected, |grad| strided::copy(View::new(&out, [out.len()].into()), grad));
        };
        overwrite(&|out| strided::mean(x, &axes, out), &means);
        if groups.iter().all(|group| group.len() > 1) {
            let variance = |group: &Vec<f64>| {
                let mean = mean(group);
                group.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (group.len() - 1) as f64
            };
            let variances: Vec<f64> = groups.iter().map(variance).collect();
            overwrite(&|out| strided::variance(x, &axes, 1.0, out), &variances);
        }
        if groups.iter().all(|group| !group.is_empty()) {
            let largest: Vec<f64> =
                groups.iter().map(|group| group.iter().copied().fold(f64::NEG_INFINITY, f64::max)).collect();
            overwrite(&|out| strided::max(x, &axes, out), &largest);
        }
        let axis = random.random_range(0..5);
        if axis < x.shape.rank() && x.shape[axis] > 0 {
            let first_largest = |group: &Vec<f64>| {
                let largest = group.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                group.iter().position(|x| *x == largest).unwrap() as u32
            };
            let expected: Vec<u32> = self::groups(&x, &[axis]).iter().map(first_largest).collect();
            let mut out = vec![99; expected.len()];
            strided::argmax(x, axis, &mut out);
            assert_eq!(out, expected, "argmax along {axis} of {}", x.shape);
        }
    });
}

#[test]
fn sum_to_reverses_broadcasting() {
    let data: Vec<f32> = (0..24).map(|i| i as f32).collect();
    let x = View::new(&data, [2, 3, 4].into());
    for (shape, expected) in [
        (Shape::from([4]), vec![60.0, 66.0, 72.0, 78.0]),
        (Shape::from([3, 1]), vec![60.0, 92.0, 124.0]),
        (Shape::from([2, 1, 1]), vec![66.0, 210.0]),
        (Shape::SCALAR, vec![276.0]),
    ] {
        check_grad(&expected, |out| strided::sum_to(x, shape, out));
    }
}

#[test]
fn the_order_of_a_sum_is_that_of_the_shape_not_of_the_memory() {
    let mut random = Random::new(3, Purpose::Test, 0, 0);
    let data: Vec<f32> = (0..6 * 7 * 50).map(|_| random.random_range(-1.0..1.0)).collect();
    let x = View::new(&data, [6, 7, 50].into());
    let mut turned = vec![0.0; data.len()];
    strided::copy_into(x.permute(&[2, 0, 1]), &mut turned);
    let turned = View::new(&turned, [50, 6, 7].into()).permute(&[1, 2, 0]);
    let sum = |x, axes: &[usize], n| {
        let mut y = vec![0.0; n];
        strided::sum(x, axes, Grad { data: &mut y, add: false });
        y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let mut first = None;
    at_every_level(|level| {
        let mut all = vec![];
        for (axes, n) in [
            (vec![0, 1, 2], 1),
            (vec![2], 42),
            (vec![0], 350),
            (vec![0, 1], 50),
            (vec![0, 2], 7),
            (vec![1], 300),
        ] {
            let bits = sum(x, &axes, n);
            assert_eq!(bits, sum(turned, &axes, n), "axes {axes:?} at level {level:?}");
            all.extend(bits);
        }
        assert_eq!(
            *first.get_or_insert_with(|| all.clone()),
            all,
            "level {level:?} differs from the least able"
        );
    });
}

#[test]
fn large_operations_give_the_same_bits_split_over_threads() {
    let mut random = Random::new(4, Purpose::Test, 0, 0);
    let (rows, cols) = (700, 613);
    let data: Vec<f32> = (0..rows * cols).map(|_| random.random_range(-1.0..1.0)).collect();
    let x = View::new(&data, [rows, cols].into());
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut y = vec![0.0; rows * cols];
            strided::binary(
                Binary::Mul,
                x.transpose(0, 1),
                View::scalar(&3.0),
                Grad { data: &mut y, add: false },
            );
            let mut sums = vec![0.0; rows];
            strided::sum(x, &[1], Grad { data: &mut sums, add: false });
            (y, sums)
        })
    };
    let (y, sums) = run(1);
    assert_eq!(y[5], x.data[5 * cols] * 3.0);
    for (i, row) in data.chunks(cols).enumerate() {
        let expected: f64 = row.iter().map(|&x| f64::from(x)).sum();
        assert!((f64::from(sums[i]) - expected).abs() < TOLERANCE, "row {i}");
    }
    assert!(run(3) == (y, sums), "three threads give other bits than one");
}

#[test]
fn max_keeps_nan_and_infinity() {
    at_every_level(|level| {
        for (n, at, special) in
            [(1, 0, f32::NAN), (40, 3, f32::NAN), (40, 39, f32::NAN), (17, 16, f32::INFINITY)]
        {
            let mut data = vec![1.0f32; n];
            data[at] = special;
            for axis in [0, 1] {
                let x = View::new(&data, if axis == 0 { [n, 1] } else { [1, n] }.into());
                let mut y = [0.0];
                strided::max(x, &[axis], &mut y);
                assert_eq!(y[0].to_bits(), special.to_bits(), "{special} at {at} of {n}, {level:?}");
                let mut index = [9];
                strided::argmax(x, axis, &mut index);
                assert_eq!(index[0], at as u32, "argmax: {special} at {at} of {n}");
            }
            let mut columns = vec![0.0; n];
            let two: Vec<f32> = data.iter().chain(&vec![0.5; n]).copied().collect();
            strided::max(View::new(&two, [2, n].into()), &[0], &mut columns);
            assert_eq!(columns[at].to_bits(), special.to_bits(), "column {at} of {n}, {level:?}");
        }
    });
    let mut y = [0.0];
    strided::max(View::new(&[f32::NEG_INFINITY; 3], [3].into()), &[0], &mut y);
    assert_eq!(y, [f32::NEG_INFINITY]);
}

/// ⟨f(x), dy⟩ = ⟨x, fᵀ(dy)⟩ ties an adjoint to its linear function.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[test]
fn picking_and_its_adjoints() {
    for_seeds(300, |random| {
        let x = array(random);
        let x = x.view();
        let axis = random.random_range(0..5);
        if axis >= x.shape.rank() || x.shape.elements() == 0 {
            return;
        }
        let n = random.random_range(0..4);
        let size = x.shape[axis] as u32;
        let with_size = |n| {
            let mut sizes = x.shape.to_vec();
            sizes[axis] = n;
            Shape::new(&sizes)
        };
        let flat = elements(&x);
        let check_adjoint = |y: &[f32], dy: View<'_, f32>, backward: &dyn Fn(Grad<'_, f32>)| {
            let mut dx = vec![f32::NAN; flat.len()];
            backward(Grad { data: &mut dx, add: false });
            let difference = (dot(y, dy.data) - dot(&flat, &dx)).abs();
            assert!(difference < TOLERANCE, "the adjoint is off by {difference}");
            check_grad(&f64s(&dx), backward);
        };
        let noise = |random: &mut Random, n: usize| -> Vec<f32> {
            (0..n).map(|_| random.random_range(-1.0..1.0)).collect()
        };

        // Whole entries.
        let ids: Vec<u32> = (0..n).map(|_| random.random_range(0..size)).collect();
        let shape = with_size(n);
        let entry = |mut index: Vec<usize>| {
            index[axis] = ids[index[axis]] as usize;
            at(&x, &index)
        };
        let expected: Vec<f32> = indices(&shape).into_iter().map(entry).collect();
        let mut y = vec![f32::NAN; expected.len()];
        strided::index_select(x, axis, &ids, &mut y);
        assert_eq!(y, expected, "index_select along {axis} of {}", x.shape);
        let dy = noise(random, y.len());
        let dy = View::new(&dy, shape);
        check_adjoint(&y, dy, &|dx| strided::index_select_backward(dy, axis, &ids, x.shape, dx));

        // An id for every place.
        let ids: Vec<u32> = (0..shape.elements()).map(|_| random.random_range(0..size)).collect();
        let place = |(mut index, id): (Vec<usize>, &u32)| {
            index[axis] = *id as usize;
            at(&x, &index)
        };
        let expected: Vec<f32> = indices(&shape).into_iter().zip(&ids).map(place).collect();
        let mut y = vec![f32::NAN; expected.len()];
        strided::gather(x, axis, &ids, &mut y);
        assert_eq!(y, expected, "gather along {axis} of {}", x.shape);
        let dy = noise(random, y.len());
        let dy = View::new(&dy, shape);
        check_adjoint(&y, dy, &|dx| strided::gather_backward(dy, axis, &ids, x.shape, dx));

        // A range, and what it leaves, joined again.
        let start = random.random_range(0..=x.shape[axis]);
        let end = random.random_range(start..=x.shape[axis]);
        let pieces = [x.slice(axis, 0..start), x.slice(axis, start..end), x.slice(axis, end..size as usize)];
        let mut joined = vec![f32::NAN; flat.len()];
        strided::concat(&pieces, axis, &mut joined);
        assert_eq!(joined, flat, "concat along {axis} of {}", x.shape);
        let y = elements(&pieces[1]);
        let dy = noise(random, y.len());
        let dy = View::new(&dy, pieces[1].shape);
        check_adjoint(&y, dy, &|dx| strided::slice_backward(dy, axis, start..end, x.shape, dx));
    });
}

#[test]
fn one_hot_marks_the_id() {
    let mut y = [9.0f32; 6];
    strided::one_hot(&[2, 0], 3, &mut y);
    assert_eq!(y, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
}

#[test]
fn a_view_reshapes_only_what_lies_row_by_row() {
    let data: Vec<f32> = (0..6).map(|i| i as f32).collect();
    let x = View::new(&data, [2, 3].into());
    assert_eq!(elements(&x.reshape([3, 2]).unwrap()), data);
    assert!(x.transpose(0, 1).reshape([6]).is_none(), "a transposed view was reshaped in place");
    assert!(x.slice(1, 0..2).reshape([4]).is_none(), "a view with gaps was reshaped in place");
    assert_eq!(elements(&x.slice(0, 1..2).reshape([3]).unwrap()), data[3..]);
}

#[test]
fn shape_errors_name_the_operation_the_shapes_and_the_rule() {
    let layout = Layout::contiguous([2, 3].into());
    let words = |error: ShapeError| error.0;
    let (a, b) = (Shape::from([2, 3]), Shape::from([4]));
    for (message, expected) in [
        (words(layout.reshape([4, 2].into()).unwrap_err()), "reshape: [2, 3] has 6 elements, [4, 2] wants 8"),
        (words(layout.transpose(0, 2).unwrap_err()), "transpose: [2, 3] has 2 dimensions, no axis 2"),
        (
            words(layout.permute(&[0, 0]).unwrap_err()),
            "permute: [0, 0] does not name every axis of [2, 3] once",
        ),
        (words(layout.slice(1, 2..4).unwrap_err()), "slice: 2..4 does not lie within axis 1 of [2, 3]"),
        (words(layout.broadcast_to(b).unwrap_err()), "broadcast_to: [2, 3] does not stretch to [4]"),
        (words(layout.squeeze(0).unwrap_err()), "squeeze: axis 0 of [2, 3] has size 2, not 1"),
        (words(layout.unsqueeze(3).unwrap_err()), "unsqueeze: [2, 3] cannot have a new axis 3"),
        (
            words(strided::broadcast_shape("add", &a, &b).unwrap_err()),
            "add: [2, 3] and [4] do not broadcast to one shape",
        ),
        (
            words(strided::reduced_shape("sum", &a, &[1, 1], false).unwrap_err()),
            "sum: axis 1 of [2, 3] is named twice",
        ),
        (
            words(strided::check_ids("pick", &[0, 7], 3).unwrap_err()),
            "pick: id 7 at position 1 is out of range: 3 entries",
        ),
        (
            words(strided::gather_shape(&a, 1, &[0; 3]).unwrap_err()),
            "gather: 3 ids do not fill [2, 3] with another size of axis 1",
        ),
        (words(strided::concat_shape(&[], 0).unwrap_err()), "concat: no pieces"),
        (
            words(strided::concat_shape(&[a, b], 0).unwrap_err()),
            "concat: [4] differs from [2, 3] in more than axis 0",
        ),
    ] {
        assert_eq!(message, expected);
    }
}

#[test]
#[should_panic(expected = "add: [2] and [3] do not broadcast to one shape")]
fn misuse_panics_with_the_same_words() {
    let (a, b) = ([0.0f32; 2], [0.0f32; 3]);
    let (a, b) = (View::new(&a, [2].into()), View::new(&b, [3].into()));
    strided::binary(Binary::Add, a, b, Grad { data: &mut [], add: false });
}
