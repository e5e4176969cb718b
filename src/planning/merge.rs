//! One problem of what several nodes know, and its solution taken apart for each of them.

use std::collections::BTreeMap;
use std::time::Duration;

use ekya_sched::{DeviceSpec, Plan, Problem, ScheduleError, Scheduler, StreamPlan, StreamSpec};

use super::decisions::{Decided, Decisions, Guest, Place};
use super::situation::{DeviceSituation, Situation, StreamSituation};

/// Between what speeds of devices are believed to lie, beside each other.
const SPEEDS: (f64, f64) = (0.01, 100.0);

/// Plans for nodes, by name, and says what each is to do. `number` counts the plans.
///
/// # Errors
/// When a situation makes no sense, or the scheduler cannot plan; see [`ScheduleError`].
pub fn plan(
    nodes: &BTreeMap<String, Situation>,
    scheduler: &dyn Scheduler,
    number: u64,
) -> Result<BTreeMap<String, Decisions>, ScheduleError> {
    let site = Site::of(nodes);
    let plan = scheduler.plan(&site.problem)?;
    Ok(site.decisions(&plan, number))
}

/// Nodes as one problem, and what its indices stand for.
struct Site<'a> {
    problem: Problem,
    nodes: &'a BTreeMap<String, Situation>,
    /// By device of the problem: the node, the device's index there, and what that says of it.
    devices: Vec<(&'a str, usize, &'a DeviceSituation)>,
}

impl<'a> Site<'a> {
    fn of(nodes: &'a BTreeMap<String, Situation>) -> Self {
        let devices = nodes.iter().flat_map(|(name, situation)| {
            let all = situation.devices.iter().enumerate();
            all.map(move |(index, device)| (name.as_str(), index, device))
        });
        let longest = nodes.values().map(|one| one.horizon).fold(0.0, f64::max);
        let mut site = Self {
            problem: Problem::new(Duration::try_from_secs_f64(longest).unwrap_or_default()),
            nodes,
            devices: devices.collect(),
        };
        let numbers: BTreeMap<_, _> = nodes.keys().zip(0..).collect();
        let spec = |(node, _, device): &(&str, usize, &DeviceSituation)| DeviceSpec {
            memory: device.memory,
            node: numbers.get(&(*node).to_owned()).copied().unwrap_or(0),
            lends: device.lends,
            ..DeviceSpec::new(device.capacity)
        };
        site.problem.devices = site.devices.iter().map(spec).collect();
        let quanta = nodes.values().map(|one| one.quantum);
        site.problem.quantum = quanta.min().unwrap_or(site.problem.quantum);
        let accuracies = nodes.values().map(|one| one.min_accuracy);
        site.problem.min_accuracy = accuracies.fold(0.0, f64::max);
        let streams = nodes.iter().flat_map(|(node, situation)| {
            let streams = situation.streams.iter();
            streams.map(|stream| site.spec(node, stream))
        });
        site.problem.streams = streams.collect();
        site
    }

    /// A stream as the scheduler of all devices is asked about it.
    fn spec(&self, node: &str, stream: &StreamSituation) -> StreamSpec {
        let mut spec = stream.spec.clone();
        let index = spec.device.unwrap_or(usize::MAX);
        let here = (self.devices.iter()).position(|(of, at, _)| *of == node && *at == index);
        spec.device = here;
        spec.training_device = None;
        if spec.training_running {
            let there = stream.trained_on.as_ref().map(|place| self.find(place));
            spec.training_device = there.unwrap_or(here);
            if spec.training_device.is_none() {
                // Its device is gone, and the retraining with it.
                spec.retraining.clear();
                spec.training_running = false;
            }
        }
        if self.nodes.len() > 1 {
            let speed = |&(_, _, device): &(&str, usize, &DeviceSituation)| {
                let own = here.map(|here| self.devices[here].2);
                own.map_or(1.0, |own| speed(own, device, &stream.kind))
            };
            spec.speeds = self.devices.iter().map(speed).collect();
        } else {
            spec.transfer_seconds = None;
        }
        spec
    }

    fn find(&self, place: &Place) -> Option<usize> {
        let is_it = |(node, _, device): &(&str, usize, &DeviceSituation)| {
            *node == place.node && device.name == place.device
        };
        self.devices.iter().position(is_it)
    }

    fn decisions(&self, plan: &Plan, number: u64) -> BTreeMap<String, Decisions> {
        let begun = |(node, situation): (&String, &Situation)| {
            let decisions = Decisions {
                plan: number,
                about: situation.number,
                streams: Vec::with_capacity(situation.streams.len()),
                guests: Vec::new(),
            };
            (node.clone(), decisions)
        };
        let mut all: BTreeMap<_, _> = self.nodes.iter().map(begun).collect();
        let streams = self.nodes.iter().flat_map(|(node, situation)| {
            let streams = situation.streams.iter();
            streams.map(move |stream| (node, stream))
        });
        for ((node, stream), plan) in streams.zip(&plan.streams) {
            let away = plan
                .training_device
                .filter(|device| Some(*device) != plan.device);
            let away = away.and_then(|device| self.devices.get(device));
            if let Some(&(at, index, _)) = away
                && let Some(guest) = guest(node, stream, index, plan)
                && let Some(decisions) = all.get_mut(at)
            {
                decisions.guests.push(guest);
            }
            let place = away.map(|(node, _, device)| Place {
                node: (*node).to_owned(),
                device: device.name.clone(),
            });
            let (name, version) = (stream.spec.name.clone(), stream.version);
            let decided = Decided::of(name, version, plan, place);
            if let Some(decisions) = all.get_mut(node) {
                decisions.streams.extend(decided);
            }
        }
        all
    }
}

/// What a stream's retraining, which runs or begins now, gets of another device.
fn guest(of: &str, stream: &StreamSituation, device: usize, plan: &StreamPlan) -> Option<Guest> {
    let now = plan.now()?;
    let runs = plan.retrains_now().is_some() || stream.spec.training_running;
    runs.then(|| Guest {
        of: of.to_owned(),
        stream: stream.spec.name.clone(),
        device,
        share: now.training_share,
    })
}

/// How fast a device is for a kind of student, beside its own: as measured, or as for what else was
/// measured on both, or alike.
fn speed(own: &DeviceSituation, other: &DeviceSituation, kind: &str) -> f64 {
    let ratios = own.speeds.iter().filter_map(|(of, ours)| {
        let theirs = other.speeds.iter().find(|(known, _)| known == of)?.1;
        let ratio = theirs / ours;
        (ratio.is_finite() && ratio > 0.0).then_some((of == kind, ratio))
    });
    let ratios: Vec<_> = ratios.collect();
    let own_kind = ratios.iter().find(|(is_kind, _)| *is_kind);
    let logarithms = ratios.iter().map(|(_, ratio)| ratio.ln());
    let mean = || (logarithms.sum::<f64>() / ratios.len().max(1) as f64).exp();
    let (least, most) = SPEEDS;
    own_kind
        .map_or_else(mean, |(_, ratio)| *ratio)
        .clamp(least, most)
}

#[cfg(test)]
mod tests {
    use ekya_sched::{InferenceOption, RetrainingOption, Share, Thief};
    use proptest::prelude::*;

    use super::*;
    use crate::planning::{Assembly, Part, Parts};

    fn stream(name: &str, gpu_seconds: f64) -> StreamSituation {
        let needed = Share::from_micro(200_000);
        StreamSituation {
            spec: StreamSpec {
                name: name.to_owned(),
                device: Some(0),
                accuracy: 0.5,
                inference: vec![InferenceOption {
                    accuracy_factor: 1.0,
                    share: needed,
                }],
                retraining: vec![RetrainingOption::new(0.9, gpu_seconds)],
                transfer_seconds: Some(1.0),
                ..StreamSpec::default()
            },
            version: 7,
            kind: "small".to_owned(),
            trained_on: None,
        }
    }

    fn node(streams: Vec<StreamSituation>) -> Situation {
        Situation {
            number: 3,
            horizon: 100.0,
            quantum: Share::from_micro(100_000),
            min_accuracy: 0.0,
            devices: vec![DeviceSituation {
                name: "cpu0".to_owned(),
                capacity: Share::WHOLE,
                memory: None,
                lends: true,
                speeds: vec![("small".to_owned(), 10.0)],
            }],
            streams,
        }
    }

    /// One with four streams that want 60 s each of 100, and one without.
    fn uneven() -> BTreeMap<String, Situation> {
        let names = ["a", "b", "c", "d"];
        let loaded = names.map(|name| stream(name, 60.0));
        BTreeMap::from([
            ("edge-1".to_owned(), node(loaded.into())),
            ("edge-2".to_owned(), node(Vec::new())),
        ])
    }

    fn planned(nodes: &BTreeMap<String, Situation>) -> BTreeMap<String, Decisions> {
        plan(nodes, &Thief::default(), 1).unwrap_or_default()
    }

    #[test]
    fn who_has_much_to_do_is_helped_by_who_has_nothing() {
        let all = planned(&uneven());
        let (loaded, idle) = (&all["edge-1"], &all["edge-2"]);
        assert_eq!((loaded.about, loaded.streams.len()), (3, 4));
        assert!(loaded.streams.iter().all(|one| one.version == 7));
        let away: Vec<_> = (loaded.streams.iter())
            .filter(|one| {
                one.trained_on
                    .as_ref()
                    .is_some_and(|place| place.node == "edge-2")
            })
            .filter(|one| one.start.is_some())
            .collect();
        assert!(!away.is_empty(), "{loaded:?}");
        assert_eq!(idle.guests.len(), away.len());
        for (guest, decided) in idle.guests.iter().zip(away) {
            assert_eq!((&*guest.of, &guest.stream), ("edge-1", &decided.stream));
            assert_eq!((guest.device, guest.share), (0, decided.training_share));
        }
        assert!(loaded.guests.is_empty());
    }

    #[test]
    fn nobody_is_helped_by_a_device_that_is_not_lent() {
        let mut nodes = uneven();
        for situation in nodes.values_mut() {
            situation.devices[0].lends = false;
        }
        assert!(planned(&nodes)["edge-2"].guests.is_empty());
        nodes.remove("edge-2");
        assert!(planned(&nodes)["edge-1"].guests.is_empty());
    }

    #[test]
    fn what_runs_elsewhere_stays_there_until_that_node_is_gone() {
        let mut nodes = uneven();
        if let Some(loaded) = nodes.get_mut("edge-1") {
            let running = &mut loaded.streams[1];
            running.spec.training_running = true;
            running.trained_on = Some(Place {
                node: "edge-2".to_owned(),
                device: "cpu0".to_owned(),
            });
        }
        let all = planned(&nodes);
        assert!(all["edge-2"].guests.iter().any(|guest| guest.stream == "b"));
        nodes.remove("edge-2");
        let alone = &planned(&nodes)["edge-1"].streams[1];
        assert_eq!((alone.retrains, alone.training_share), (false, Share::ZERO));
    }

    #[test]
    fn speeds_are_those_of_the_kind_else_of_what_both_know() {
        let device = |speeds: &[(&str, f64)]| DeviceSituation {
            speeds: speeds
                .iter()
                .map(|(kind, speed)| ((*kind).to_owned(), *speed))
                .collect(),
            ..node(Vec::new()).devices[0].clone()
        };
        let jetson = device(&[("small", 10.0), ("resnet18", 1.0)]);
        let server = device(&[("small", 40.0), ("resnet18", 9.0)]);
        assert_eq!(speed(&jetson, &server, "small"), 4.0);
        assert!((speed(&jetson, &server, "ssdlite") - 6.0).abs() < 1e-9);
        assert_eq!(speed(&jetson, &device(&[]), "small"), 1.0);
        assert_eq!(
            speed(&jetson, &device(&[("small", f64::NAN)]), "small"),
            1.0
        );
    }

    proptest! {
        #[test]
        fn what_is_sent_in_parts_arrives_whole(streams in 0..60_usize, guests in 0..120_usize) {
            let names = (0..streams).map(|index| stream(&format!("s{index}"), 10.0));
            let whole = node(names.collect());
            let mut assembly = Assembly::default();
            let arrived: Vec<_> = Part::all(whole.clone()).filter_map(|part| assembly.take(part)).collect();
            prop_assert_eq!(arrived, [whole.clone()]);
            let nodes = BTreeMap::from([("edge-1".to_owned(), whole)]);
            let mut decisions = planned(&nodes)["edge-1"].clone();
            decisions.guests = (0..guests).map(|index| Guest {
                of: "edge-2".to_owned(),
                stream: index.to_string(),
                device: 0,
                share: Share::ZERO,
            }).collect();
            let mut assembly = Assembly::default();
            let parts: Vec<_> = Part::all(decisions.clone()).collect();
            prop_assert_eq!(parts.len(), decisions.clone().into_parts().len());
            let arrived: Vec<_> = parts.into_iter().filter_map(|part| assembly.take(part)).collect();
            prop_assert_eq!(arrived, [decisions]);
        }
    }

    #[test]
    fn a_part_that_is_missing_spoils_the_whole_and_not_the_next() {
        let names = (0..40).map(|index| stream(&format!("s{index}"), 10.0));
        let whole = node(names.collect());
        let parts: Vec<_> = Part::all(whole.clone()).collect();
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(parts[0].clone()), None);
        assert_eq!(assembly.take(parts[2].clone()), None);
        let arrived: Vec<_> = parts
            .into_iter()
            .filter_map(|part| assembly.take(part))
            .collect();
        assert_eq!(arrived, [whole]);
    }
}
