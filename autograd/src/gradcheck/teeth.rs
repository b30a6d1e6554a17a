//! The checks find wrong gradients: ops with planted faults go through the same machinery as the library's.

use super::suite::{Cases, OpReport};
use crate::ops::planted_graph::{Fault as GraphFault, PlantedGraph};
use crate::ops::planted_kernel::{Fault, PlantedKernel};

/// A scalar's worth of everything: one row, several, square, longer than a vector.
const SHAPES: [[usize; 2]; 5] = [[1, 1], [1, 3], [3, 2], [3, 3], [2, 18]];

fn kernel(fault: Fault) -> OpReport {
    let mut cases = Cases::new();
    let transposed = matches!(fault, Fault::NoneTransposed | Fault::NotTransposed);
    for [rows, cols] in SHAPES.into_iter().filter(|[rows, cols]| !transposed || rows == cols) {
        let (x, w) = (cases.normal([rows, cols]), cases.normal([cols]));
        cases.add(fault.name(), [x, w], move |[x, w]| {
            x.tape().apply(PlantedKernel(fault), &[Some(x), Some(w)])
        });
    }
    cases.run([fault.name()].into_iter()).remove(0)
}

fn graph(fault: GraphFault, name: &'static str) -> OpReport {
    let mut cases = Cases::new();
    for [rows, cols] in SHAPES {
        let (a, b) = (cases.normal([rows, cols]), cases.normal([cols]));
        cases.add(name, [a, b], move |[a, b]| a.tape().apply(PlantedGraph(fault), &[Some(a), Some(b)]));
    }
    cases.run([name].into_iter()).remove(0)
}

#[test]
fn every_planted_fault_is_found_and_nothing_else() {
    let kernels = Fault::ALL.into_iter().map(|fault| (fault.is_none(), kernel(fault)));
    let graphs =
        PlantedGraph::ALL.into_iter().map(|(fault, name)| (fault == GraphFault::None, graph(fault, name)));
    let mut found = 0;
    for (sound, report) in kernels.chain(graphs) {
        match (sound, &report.failure) {
            (true, Some(failure)) => panic!("`{}` has no fault, but: {failure}", report.name),
            (false, None) => panic!("`{}` was not found in {} checks", report.name, report.checks),
            (true, None) => {}
            (false, Some(failure)) => {
                found += 1;
                eprintln!("{}: {failure}", report.name);
            }
        }
    }
    assert_eq!(found, 26, "faults were lost from the list");
}
