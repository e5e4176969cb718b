//! The bench of a node as it is operated, `benches/operations`, beside what it may cost.

use anyhow::Result;

use super::figures::{figures, number};
use super::row::Row;

/// Latency, the dashboard and a restart; unless it is to be quick, eight cameras.
///
/// # Errors
/// When the bench does not build or run, or prints what cannot be read.
pub(super) fn rows(quick: bool) -> Result<Vec<Row>> {
    let arguments = quick.then(|| "--quick".into());
    let figures = figures("operations", arguments.as_slice())?;
    let row =
        |name: &str, path: &str, unit| Row::new(name.to_owned(), number(&figures, path), unit);
    let mut rows = vec![
        row("frame_over_bare_pass_p50", "latency/over_p50_seconds", "s")
            .against("bare", number(&figures, "latency/bare_p50_seconds"))
            .at_most(0.001),
        row("frame_over_bare_pass_p99", "latency/over_p99_seconds", "s").at_most(0.003),
        row("dashboard_page", "dashboard/page_bytes", "bytes").at_most(150e3),
        row(
            "dashboard_of_100_streams_while_nobody_looks",
            "dashboard/cores_while_nobody_looks",
            "cores",
        ),
        row(
            "dashboard_of_100_streams_while_one_looks",
            "dashboard/cores_while_one_looks",
            "cores",
        )
        .at_most(0.02),
        row("restart_until_all_answer", "restart/answered_seconds", "s").at_most(3.0),
    ];
    if !figures["cameras"].is_null() {
        rows.extend([
            row("eight_cameras_dropped", "cameras/dropped", "frames")
                .against("frames", number(&figures, "cameras/frames"))
                .at_most(0.0),
            row(
                "eight_cameras_outside_libtorch",
                "cameras/cores_outside_libtorch",
                "cores",
            )
            .at_most(0.05),
            row(
                "eight_cameras_memory_beyond_libtorch",
                "cameras/memory_beyond_libtorch_bytes",
                "bytes",
            )
            .at_most(150e6),
        ]);
    }
    Ok(rows)
}
