//! The bench of the actors, `ekya-actors/benches/actors.rs`: runs it and puts what it measured beside
//! what it should be.

use std::ffi::OsString;

use anyhow::Result;

use super::figures::{figures, number};
use super::row::Row;

/// Local and remote asks, payloads, and many actors.
///
/// # Errors
/// When the bench does not build or run, or prints what cannot be read.
pub(super) fn rows(quick: bool) -> Result<Vec<Row>> {
    let arguments: Vec<OsString> = quick.then(|| "--quick".into()).into_iter().collect();
    let figures = figures("actors", &arguments)?;
    let number = |path: &str| number(&figures, path);
    let micros = |name: &str, ours: &str, what, theirs: &str| {
        Row::new(name.into(), number(ours), "us").against(what, number(theirs))
    };
    let times = |name: &str, ours: &str, theirs: &str| {
        Row::new(name.into(), number(ours) / number(theirs), "times")
    };
    let asks = "remote/ours/";
    let quinn = "remote/quinn_two_workers/";
    let single = "remote/quinn_one_thread/";
    let p50 = |of: &str| format!("{of}p50_us");
    let p99 = |of: &str| format!("{of}p99_us");
    let pipelined = number("pipelined/ours_per_second");
    let bare = number("pipelined/quinn_per_second");
    Ok(vec![
        micros(
            "local_ask_p50",
            "local/ours/p50_us",
            "actix",
            "local/actix/p50_us",
        ),
        times(
            "local_ask_p50_over_actix",
            "local/ours/p50_us",
            "local/actix/p50_us",
        )
        .at_most(2.0),
        micros(
            "ask_on_the_same_thread",
            "same_thread/ours_us",
            "actix",
            "same_thread/actix_us",
        ),
        times(
            "ask_on_the_same_thread_over_actix",
            "same_thread/ours_us",
            "same_thread/actix_us",
        )
        .at_most(2.0),
        micros(
            "remote_ask_p50",
            &p50(asks),
            "quinn, 2 workers",
            &p50(quinn),
        ),
        times("remote_ask_p50_over_quinn", &p50(asks), &p50(quinn)).at_most(1.4),
        micros(
            "remote_ask_p99",
            &p99(asks),
            "quinn, 2 workers",
            &p99(quinn),
        ),
        times("remote_ask_p99_over_quinn", &p99(asks), &p99(quinn)).at_most(2.0),
        micros(
            "remote_ask_p50_again",
            &p50(asks),
            "quinn, one thread",
            &p50(single),
        ),
        Row::new("pipelined_asks".into(), pipelined, "/s")
            .against("quinn", bare)
            .at_least(200_000.0),
        Row::new(
            "pipelined_asks_over_quinn".into(),
            pipelined / bare,
            "times",
        )
        .at_least(0.5),
        Row::new("payload_of_44_MiB".into(), number("payload/ours_ms"), "ms")
            .against("one quinn stream", number("payload/quinn_ms")),
        times("payload_over_quinn", "payload/ours_ms", "payload/quinn_ms").at_most(1.25),
        times(
            "asks_p99_beside_a_payload_over_idle",
            "payload/meanwhile/p99_us",
            "payload/idle/p99_us",
        )
        .at_most(5.0),
        Row::new("actors_spawned".into(), number("spawning/actors"), "actors"),
        Row::new("spawning_them".into(), number("spawning/started_ms"), "ms").at_most(100.0),
        Row::new("memory_of_each".into(), number("spawning/bytes_each"), "B").at_most(2048.0),
    ])
}
