//! Every op's derivatives against central differences.

use weft_autograd::gradcheck::suite;

/// Fewer derivatives compared would mean that cases got lost.
const COMPARISONS: usize = 2_000;

#[test]
fn every_op_has_the_derivatives_that_central_differences_find() {
    let reports = suite();
    let failures: Vec<String> = reports
        .iter()
        .filter_map(|report| Some(format!("{}: {}", report.name, report.failure.as_ref()?)))
        .collect();
    assert!(failures.is_empty(), "{} ops failed:\n{}", failures.len(), failures.join("\n"));
    let comparisons: usize = reports.iter().map(|report| report.checked.comparisons).sum();
    let checks: usize = reports.iter().map(|report| report.checks).sum();
    assert!(checks >= COMPARISONS, "only {checks} checks of {comparisons} derivatives");
}
