//! Worker processes: real ones, each of which is this test program started again.

use std::time::Duration;

use ekya_actors::worker::{self, Limits, Patience, Pool, Program};

/// Long enough for anything on a busy machine, and never waited out by a test that passes.
const LONG: Duration = Duration::from_secs(60);
const PATIENT: Patience = Patience {
    slice: LONG,
    at_most: LONG,
};

const VERSION: &str = "1.2.3";

/// No test: what the workers run.
#[test]
fn worker_main() {
    if worker::is_worker() {
        worker::serve(VERSION, |request| request.to_ascii_uppercase());
    }
}

fn program() -> Program {
    let mut program = Program::this(VERSION);
    program.args = ["--exact", "worker_main", "--nocapture"]
        .map(Into::into)
        .into();
    program
}

#[test]
fn a_worker_answers() {
    let pool = Pool::start(program(), Limits::default(), 1).unwrap();
    let mut worker = pool.take(LONG).unwrap();
    for _ in 0..3 {
        let answer = worker.call(b"text", PATIENT, &mut || Ok(())).unwrap();
        assert_eq!(answer, b"TEXT");
    }
    assert!(worker.cpu_time() > Some(Duration::ZERO));
}
