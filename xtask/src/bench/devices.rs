//! The benches of devices, `benches/devices` and that of the queue alone, `ekya-actors/benches/queue.rs`:
//! runs them and puts what they measured beside what it should be.

use std::ffi::OsString;

use anyhow::Result;

use super::figures::{figures, number};
use super::row::Row;

/// A step of training, in milliseconds, beside which a frame may have to wait, and a tenth more.
const STEP_AND_A_TENTH: f64 = 44.0;

/// Shares, what the queue and workers cost, and inference beside training.
///
/// # Errors
/// When the bench does not build or run, or prints what cannot be read.
pub(super) fn rows(quick: bool) -> Result<Vec<Row>> {
    let arguments: Vec<OsString> = quick.then(|| "--quick".into()).into_iter().collect();
    let queue = figures("queue", &arguments)?;
    let figures = figures("devices", &arguments)?;
    let number = |path: &str| number(&figures, path);
    let row = |name: &str, value: f64, unit| Row::new(name.into(), value, unit);
    let at_most =
        |name: &str, path: &str, unit, target| row(name, number(path), unit).at_most(target);
    let cost = |name: &str, of: &str| {
        let (bare, worker) = (
            number(&format!("{of}/bare_ms")),
            number(&format!("{of}/worker_ms")),
        );
        [
            row(&format!("{name}_step"), worker, "ms").against("bare loop", bare),
            row(
                &format!("{name}_throughput_over_bare"),
                bare / worker,
                "times",
            )
            .at_least(0.98),
        ]
    };
    let added = number("inference/beside_p99_ms") - number("inference/alone_p99_ms");
    let shares = |of: &str, longest| {
        let path = |what: &str| format!("shares/{of}/{what}");
        let at_most = |name: &str, what: &str, target| {
            let name = format!("{name}_{of}");
            row(&name, number(&path(what)), "device").at_most(target)
        };
        let busy = |name: &str, what: &str| {
            row(&format!("{name}_{of}"), number(&path(what)), "of the time").at_least(0.97)
        };
        [
            row(&format!("longest_step_{of}"), number(&path(longest)), "ms").at_most(40.0),
            at_most("share_error_over_any_1_s", "over_1_s", 0.06),
            at_most("share_error_over_any_5_s", "over_5_s", 0.012),
            busy("busy", "busy"),
            at_most("share_error_with_one_idle", "one_idle/off_by", 0.06),
            busy("busy_with_one_idle", "one_idle/busy"),
        ]
    };
    let mut rows = Vec::new();
    rows.extend(shares("capped", "steps/0/step_ms"));
    rows.extend(shares("with_resnet18", "steps/0/step_ms"));
    rows.extend(cost("resnet18", "throughput/resnet18"));
    rows.extend(cost("small", "throughput/small"));
    rows.extend([
        row(
            "inference_p99_beside_training",
            number("inference/beside_p99_ms"),
            "ms",
        )
        .against("alone", number("inference/alone_p99_ms")),
        row("inference_p99_added", added, "ms").at_most(STEP_AND_A_TENTH),
        at_most(
            "frames_dropped_inside_the_share",
            "inference/dropped",
            "frames",
            0.0,
        ),
        at_most("worker_ready", "workers/cold_ms", "ms", 400.0),
        at_most("worker_ready_from_the_pool", "workers/warm_ms", "ms", 50.0),
        at_most(
            "weights_of_resnet18_in",
            "workers/weights_in_ms",
            "ms",
            80.0,
        ),
        at_most(
            "weights_of_resnet18_out",
            "workers/weights_out_ms",
            "ms",
            80.0,
        ),
    ]);
    let queue = |name: &str, path: &str, per: f64, unit, target| {
        let value = super::figures::number(&queue, path) / per;
        Row::new(name.into(), value, unit).at_most(target)
    };
    rows.extend([
        queue(
            "dispatch_among_1000_jobs",
            "dispatch/3/each/median_ns",
            1e3,
            "us",
            5.0,
        ),
        queue(
            "lease_renewed_among_1000_jobs",
            "renew/each/median_ns",
            1e3,
            "us",
            5.0,
        ),
        queue(
            "grants_of_1000_jobs_changed",
            "grants/all/median_ns",
            1e6,
            "ms",
            1.0,
        ),
    ]);
    Ok(rows)
}
