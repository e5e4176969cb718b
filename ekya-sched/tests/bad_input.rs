//! Problems and plans in JSON, traces and profiles in CSV that were damaged are refused or
//! understood, and never make anything panic.
//!
//! What is left readable after some characters were changed, inserted or removed is a problem like
//! any other: every scheduler plans it or says why not, and a trace is simulated. The fuzz targets in `fuzz/` do the same for
//! longer.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod random;

use std::time::Duration;

use ekya_sched::simulate::{Scenario, Trace, inference_from_csv, throughput_from_csv};
use ekya_sched::{
    CachedStudent, DeviceSpec, Fault, InferenceOption, Optimal, Plan, PlanError, Problem,
    RetrainingOption, Scene, Scheduler, Share, StreamSpec, Thief, Throughput, scheduler_by_name,
};
use proptest::prelude::*;
use serde_json::Value;

use random::{Checked, schedulers};

/// Seconds above which times are too coarse for a plan to be checked.
const SECONDS_MAX: u64 = 1_000_000_000;

const TRACE: &str = "stream,window,start_accuracy,config,gpu_seconds,end_accuracy,hour,class_car
a,1,0.5,cheap,10,0.6,9,0.5
a,1,0.5,costly,90,0.8,9,0.5
a,2,0.4,cheap,10,0.6,10,0.25
a,2,0.4,costly,90,0.8,10,0.25
b,1,0.7,cheap,12,0.7,9,1
b,1,0.7,costly,80,0.9,9,1
b,2,0.6,cheap,12,0.7,10,1
b,2,0.6,costly,80,0.9,10,1
";
const SKIPPING: &str = "every,factor\n1,1\n2,0.8\n5,0.4\n20,0.1\n";

/// A problem in which every field says something.
fn good_problem() -> Problem {
    let share = Share::from_micro;
    let running = StreamSpec {
        name: "a".into(),
        device: Some(0),
        training_device: Some(1),
        weight: 2.0,
        accuracy: 0.5,
        memory: 2,
        inference: vec![InferenceOption {
            accuracy_factor: 1.0,
            share: share(500_000),
        }],
        retraining: vec![RetrainingOption {
            interval: Some((0.8, 0.95)),
            progress: 0.5,
            startup_seconds: 2.0,
            memory: 3,
            ..RetrainingOption::new(0.9, 20.0)
        }],
        throughput: Throughput::measured(&[(share(100_000), 2.8), (Share::WHOLE, 1.0)]).unwrap(),
        speeds: vec![1.0, 2.5],
        transfer_seconds: Some(3.0),
        scene: Some(Scene {
            classes: vec![0.5, 0.5],
            hour: 9.0,
            objects: 3.0,
            location: (1.0, 2.0),
        }),
        cached: vec![CachedStudent {
            scene: Scene::default(),
            accuracy: 0.6,
        }],
        training_running: true,
    };
    let waiting = StreamSpec {
        name: "b".into(),
        device: None,
        training_device: None,
        retraining: vec![RetrainingOption::new(0.8, 10.0)],
        training_running: false,
        ..running.clone()
    };
    let device = DeviceSpec {
        memory: Some(9),
        training_slots: Some(1),
        ..DeviceSpec::new(Share::WHOLE)
    };
    Problem {
        labelling_delay: Duration::from_secs(5),
        min_accuracy: 0.3,
        devices: vec![device, DeviceSpec::new(share(500_000))],
        streams: vec![running, waiting],
        ..Problem::new(Duration::from_secs(120))
    }
}

/// What happens to a text, at a place that is given as a part of its length.
#[derive(Debug, Clone)]
enum Damage {
    Change(f64, char),
    Insert(f64, char),
    Remove(f64),
}

impl Damage {
    fn apply(&self, text: &mut Vec<char>) {
        let (Self::Change(part, _) | Self::Insert(part, _) | Self::Remove(part)) = *self;
        let place = (part * text.len() as f64) as usize;
        match *self {
            Self::Insert(_, new) => text.insert(place, new),
            _ if place >= text.len() => {}
            Self::Change(_, new) => text[place] = new,
            Self::Remove(_) => {
                text.remove(place);
            }
        }
    }
}

/// Characters that JSON gives a meaning, digits most of all: they are read again most often.
fn character() -> impl Strategy<Value = char> {
    prop_oneof![
        4 => prop::char::range('0', '9'),
        2 => prop::sample::select("-+.eE,:[]{}\" ".chars().collect::<Vec<_>>()),
        1 => any::<char>(),
    ]
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let part = || 0.0..1.0_f64;
    let damage = prop_oneof![
        3 => (part(), character()).prop_map(|(part, new)| Damage::Change(part, new)),
        1 => (part(), character()).prop_map(|(part, new)| Damage::Insert(part, new)),
        1 => part().prop_map(Damage::Remove),
    ];
    prop::collection::vec(damage, 1..4)
}

fn damaged(text: &str, damages: &[Damage]) -> String {
    let mut text: Vec<char> = text.chars().collect();
    damages.iter().for_each(|damage| damage.apply(&mut text));
    text.into_iter().collect()
}

/// Whether it is about times beyond what a plan is checked for.
fn is_out_of_proportion(problem: &Problem) -> bool {
    problem.remaining.as_secs() > SECONDS_MAX
}

/// Every number of a JSON value, with the way to it.
fn numbers(value: &Value, at: String) -> Vec<String> {
    match value {
        Value::Number(_) => vec![at],
        Value::Array(items) => (items.iter().enumerate())
            .flat_map(|(index, item)| numbers(item, format!("{at}/{index}")))
            .collect(),
        Value::Object(fields) => (fields.iter())
            .flat_map(|(name, field)| numbers(field, format!("{at}/{name}")))
            .collect(),
        _ => Vec::new(),
    }
}

/// Shows a JSON value with one of its numbers replaced, for all of them and all odd numbers.
fn for_each_odd_number(value: &Value, mut show: impl FnMut(&str, &Value, Value)) {
    for at in numbers(value, String::new()) {
        for number in odd_numbers() {
            let mut odd = value.clone();
            *odd.pointer_mut(&at).unwrap() = number.clone();
            show(&at, &number, odd);
        }
    }
}

/// Numbers that are seldom thought of.
fn odd_numbers() -> [Value; 8] {
    let number = |value: f64| Value::from(value);
    [
        Value::from(0),
        Value::from(-1),
        Value::from(u64::MAX),
        number(1e-300),
        number(-0.0),
        number(4294.9),
        number(1e300),
        Value::Null,
    ]
}

proptest! {
    #[test]
    fn a_damaged_problem_is_planned_or_refused(damages in damages()) {
        let text = damaged(&serde_json::to_string(&good_problem()).unwrap(), &damages);
        let Ok(problem) = serde_json::from_str::<Problem>(&text) else {
            return Ok(());
        };
        prop_assume!(!is_out_of_proportion(&problem));
        for scheduler in schedulers() {
            if problem.validate().is_err() {
                prop_assert!(scheduler.plan(&problem).is_err(), "{} of {}", scheduler.name(), text);
            } else {
                // Panics when a plan does not pass its check.
                let _ = Checked(scheduler.as_ref()).plan(&problem);
            }
        }
    }

    #[test]
    fn a_damaged_trace_is_simulated_or_refused(damages in damages()) {
        let inference = inference_from_csv(SKIPPING.as_bytes(), None, 0.25).unwrap();
        if let Ok(trace) = Trace::from_csv(damaged(TRACE, &damages).as_bytes()) {
            let scenario = Scenario::new(&trace, inference);
            for name in ["thief", "uniform:0.5:1", "cloud:5:10"] {
                // A configuration may be gone that uniform retrains with.
                let _ = scenario.run(scheduler_by_name(name).unwrap().as_ref());
            }
        }
    }

    #[test]
    fn a_damaged_profile_is_used_or_refused(damages in damages()) {
        let trace = Trace::from_csv(TRACE.as_bytes()).unwrap();
        let skipping = damaged(SKIPPING, &damages);
        if let Ok(inference) = inference_from_csv(skipping.as_bytes(), None, 0.25) {
            Scenario::new(&trace, inference).run(&Thief::default()).unwrap();
        }
        // The same form: percent of a device, and seconds.
        if let Ok(throughput) = throughput_from_csv(skipping.as_bytes()) {
            let inference = inference_from_csv(SKIPPING.as_bytes(), None, 0.25).unwrap();
            let scenario = Scenario { throughput, ..Scenario::new(&trace, inference) };
            scenario.run(&Thief::default()).unwrap();
        }
    }

    #[test]
    fn a_damaged_plan_fits_or_is_refused(damages in damages()) {
        let problem = good_problem();
        let plan = serde_json::to_string(&Optimal.plan(&problem).unwrap()).unwrap();
        if let Ok(plan) = serde_json::from_str::<Plan>(&damaged(&plan, &damages)) {
            let _ = (plan.check(&problem), plan.gap(), plan.first_completion());
        }
    }
}

#[test]
fn odd_numbers_anywhere_in_a_problem_are_planned_or_refused() {
    let value = serde_json::to_value(good_problem()).unwrap();
    let mut wrong = Vec::new();
    for_each_odd_number(&value, |at, number, odd| {
        let Ok(problem) = serde_json::from_value::<Problem>(odd) else {
            return;
        };
        if is_out_of_proportion(&problem) {
            return;
        }
        for scheduler in schedulers() {
            if let Ok(plan) = scheduler.plan(&problem)
                && let Err(error) = plan.check(&problem)
            {
                wrong.push(format!("{at} = {number}, {}: {error}", scheduler.name()));
            }
        }
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Shares, accuracies and completions follow from each other. When a retraining that waits for
/// labels begins to load, or what no plan reaches, may be said otherwise.
#[test]
fn odd_numbers_in_the_timeline_of_a_plan_are_refused() {
    let problem = good_problem();
    let plan = Optimal.plan(&problem).unwrap();
    let value = serde_json::to_value(&plan).unwrap();
    for_each_odd_number(&value, |at, number, odd| {
        let Ok(odd) = serde_json::from_value::<Plan>(odd) else {
            return;
        };
        let result = odd.check(&problem);
        let fixed = !at.ends_with("starts_at") && !at.ends_with("upper_bound");
        if fixed && odd != plan {
            assert!(result.is_err(), "{at} = {number}");
        }
    });
}

#[test]
fn what_is_no_json_or_no_problem_is_an_error() {
    for text in [
        "",
        "{}",
        "[]",
        "null",
        "{\"streams\":[]}",
        "{\"devices\":1,\"streams\":[]}",
    ] {
        assert!(serde_json::from_str::<Problem>(text).is_err(), "{text}");
        assert!(serde_json::from_str::<Plan>(text).is_err(), "{text}");
    }
}

#[test]
fn fields_that_do_not_exist_are_refused() {
    let mut value = serde_json::to_value(good_problem()).unwrap();
    value["streams"][0]["acuracy"] = Value::from(0.5);
    let error = serde_json::from_value::<Problem>(value).unwrap_err();
    assert!(error.to_string().contains("acuracy"), "{error}");
}

#[test]
fn a_plan_of_numbers_that_are_none_is_refused() {
    let problem = good_problem();
    let mut plan = Optimal.plan(&problem).unwrap();
    plan.streams[1].timeline[0].accuracy = f64::NAN;
    let error = plan.check(&problem).unwrap_err();
    assert!(matches!(
        error,
        PlanError::Stream {
            fault: Fault::Accuracy { .. },
            ..
        }
    ));
}
