//! The bench of a cluster's state machines, `benches/cluster.rs`, beside what they should cost.

use anyhow::Result;

use super::figures::{figures, number};
use super::row::Row;

/// How long a leader plans, and how much a node says and hears, by the number of nodes.
///
/// # Errors
/// When the bench does not build or run, or prints what cannot be read.
pub(super) fn rows() -> Result<Vec<Row>> {
    let figures = figures("cluster", &[])?;
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
    Ok(rows)
}
