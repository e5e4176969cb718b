//! The bench of a cluster, `benches/cluster`, beside what it should cost and how long it may take.

use anyhow::Result;
use serde_json::Value;

use super::figures::{figures, number};
use super::row::Row;

/// How long a leader plans, and how much a node says and hears, by the number of nodes; unless it is to be
/// quick, how three nodes go through faults.
///
/// # Errors
/// When the bench does not build or run, or prints what cannot be read.
pub(super) fn rows(quick: bool) -> Result<Vec<Row>> {
    let arguments = quick.then(|| "--quick".into());
    let figures = figures("cluster", arguments.as_slice())?;
    let number = |path: &str| number(&figures, path);
    let mut rows = vec![
        Row::new(
            "plan_of_100_nodes_with_1000_streams".into(),
            number("of_100/plan_seconds"),
            "s",
        )
        .at_most(5.0),
    ];
    for (what, path) in [
        ("report_of_a_node", "report_bytes"),
        ("decisions_for_a_node", "decision_bytes"),
        ("roll_of_a_node", "failover/roll_bytes"),
    ] {
        let of = |nodes: &str| number(&format!("of_{nodes}/{path}"));
        let row = Row::new(format!("{what}_among_100"), of("100"), "bytes");
        // Flat, but for what is random.
        rows.push(row.against("among 10", of("10")).at_most(1.2 * of("10")));
    }
    rows.push(Row::new(
        "orders_of_a_node_at_most_when_one_of_100_dies".into(),
        number("of_100/failover/orders_of_a_node_at_most"),
        "orders",
    ));
    if !quick {
        rows.extend(rows_of_three(&figures));
    }
    Ok(rows)
}

/// Three real nodes.
fn rows_of_three(figures: &Value) -> Vec<Row> {
    let row = |name: &str, path: &str, unit| {
        Row::new(
            name.to_owned(),
            number(figures, &format!("site/{path}")),
            unit,
        )
    };
    let restarts = figures.pointer("/site/restarts/longest_without_answers_seconds");
    let gaps = restarts.and_then(Value::as_object).into_iter().flatten();
    let longest = gaps
        .filter_map(|(_, gap)| gap.as_f64())
        .fold(f64::NAN, f64::max);
    vec![
        row("plan_to_every_node_p50", "plans/to_all_p50_seconds", "s").at_most(0.05),
        row("plan_to_every_node_p99", "plans/to_all_p99_seconds", "s").at_most(0.05),
        row(
            "plan_to_every_node_longest",
            "plans/to_all_longest_seconds",
            "s",
        ),
        row("older_terms_heeded", "plans/older_terms_heeded", "times").at_most(0.0),
        row(
            "follower_killed_until_answered_elsewhere",
            "follower_killed/answered_elsewhere_seconds",
            "s",
        )
        .at_most(10.0),
        row(
            "follower_killed_checkpoints_lost",
            "follower_killed/checkpoints_lost",
            "checkpoints",
        )
        .at_most(0.0),
        row(
            "leader_killed_until_next_plan",
            "leader_killed/next_plan_seconds",
            "s",
        )
        .at_most(10.0),
        row(
            "leader_killed_dropped_elsewhere",
            "leader_killed/dropped_elsewhere",
            "frames",
        )
        .at_most(0.0),
        row(
            "partition_of_60_s_longest_without_answers",
            "partition/longest_without_answers_seconds",
            "s",
        ),
        row(
            "partition_of_60_s_until_healed",
            "partition/healed_seconds",
            "s",
        )
        .at_most(15.0),
        row(
            "stopped_for_30_s_until_healed",
            "stopped/healed_seconds",
            "s",
        ),
        Row::new(
            "restarted_one_by_one_longest_without_answers".to_owned(),
            longest,
            "s",
        )
        .at_most(2.0),
    ]
}
