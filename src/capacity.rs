//! Capacity planning: what cameras like those of a finished run could be expected to reach, if there were
//! more or fewer of them, or more devices.
//!
//! Each window of the run is planned again with another number of cameras, by the scheduler that nodes
//! plan with, on what was measured and profiled in the run: accuracy of the serving student, what
//! inference configurations cost and keep, what retrainings were expected to give and cost, what labels and
//! profiles took. What a plan leaves out, such as drift within a window, it leaves out for any number of
//! cameras: so what is said is the accuracy that was measured in the run, plus what the plans expect to be
//! different with another number.
//!
//! It is an expectation and no measurement. It takes new cameras to be like those of the run; a camera
//! whose retraining in the run finds no place here lacks what it gave from then on, until it is retrained.
//!
//! No I/O here.

use std::time::Duration;

use ekya_sched::simulate::run_window;
use ekya_sched::{
    DeviceSpec, InferenceOption, Problem, RetrainingOption, ScheduleError, Scheduler, Share,
    Stealing, StreamSpec, Thief,
};
use serde::Serialize;
use thiserror::Error;

use crate::record::{RunRecord, WindowStream};

/// Windows of a run that are planned again, at most: the last ones.
const WINDOWS_MAX: usize = 12;
/// Retrainings are weighed when so much of a window's labels is there: labels and profiles for that come
/// before the first.
const ROUND: f64 = 0.25;
/// Of a number of cameras that is no multiple of the run's, so many selections are planned.
const SELECTIONS: usize = 4;

/// What a run says of its cameras and devices.
#[derive(Debug, Clone, PartialEq)]
pub struct Capacity {
    window: Duration,
    overhead: Share,
    devices: usize,
    measured: f64,
    /// What was measured in the run, less what the same planning expects of it.
    unplanned: f64,
    /// By camera, then by window.
    cameras: Vec<Vec<Camera>>,
}

/// A camera in one window.
#[derive(Debug, Clone, PartialEq)]
struct Camera {
    /// Accuracy of its student where every frame is answered.
    accuracy: f64,
    inference: Vec<InferenceOption>,
    retraining: Vec<RetrainingOption>,
    /// Device seconds of labels and profiles.
    overhead_seconds: f64,
    /// What retraining has given in that window.
    gained: f64,
}

/// What can be expected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Expected {
    /// How many cameras.
    pub cameras: usize,
    /// On how many devices.
    pub devices: usize,
    /// Mean accuracy over cameras and time, 0..=1.
    pub accuracy: f64,
    /// That of the least accurate camera of each window, in the mean.
    pub least_accuracy: f64,
    /// Retrainings that end, a camera and window.
    pub retrainings: f64,
    /// Device time that labels and profiles would take, as a part of what is set aside for them; above 1
    /// they come late.
    pub overhead: f64,
}

/// Why a run says nothing about capacity.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CapacityError {
    /// Nothing was profiled in it.
    #[error(
        "no window in which students were profiled: run it for two windows or more under the scheduler ekya"
    )]
    NotProfiled,
    /// No cameras, or no devices.
    #[error("nothing to plan for: {0} cameras on {1} devices")]
    Nothing(usize, usize),
    /// The scheduler cannot plan it.
    #[error("the scheduler cannot plan for {cameras} cameras")]
    Schedule {
        /// How many.
        cameras: usize,
        /// Why.
        source: Box<ScheduleError>,
    },
}

impl Capacity {
    /// What a run says. Its first window is left out: there nothing was known yet.
    ///
    /// # Errors
    /// [`CapacityError::NotProfiled`], or the scheduler cannot plan it.
    pub fn of(record: &RunRecord) -> Result<Self, CapacityError> {
        let camera = |stream: usize| {
            let windows = record.windows.iter().skip(1);
            let windows = windows.filter_map(|window| Camera::of(window.streams.get(stream)?));
            let mut windows: Vec<_> = windows.collect();
            windows.drain(..windows.len().saturating_sub(WINDOWS_MAX));
            windows
        };
        let cameras = (0..record.streams.len()).map(camera);
        let cameras: Vec<_> = cameras.filter(|windows| !windows.is_empty()).collect();
        if cameras.is_empty() {
            return Err(CapacityError::NotProfiled);
        }
        let measured = record.windows.iter().skip(1);
        let measured = measured.flat_map(|window| &window.streams);
        let measured: Vec<f64> = measured
            .filter_map(|stream| stream.measured_accuracy)
            .collect();
        let mut capacity = Self {
            window: Duration::try_from_secs_f64(record.window_seconds).unwrap_or_default(),
            overhead: record.overhead_share.unwrap_or(Share::ZERO),
            devices: record.devices.len().max(1),
            measured: mean(&measured).ok_or(CapacityError::NotProfiled)?,
            unplanned: 0.0,
            cameras,
        };
        let planned = capacity.planned(capacity.cameras(), capacity.devices)?;
        capacity.unplanned = capacity.measured - planned.accuracy;
        Ok(capacity)
    }

    /// How many cameras the run had that something is known of.
    #[must_use]
    pub fn cameras(&self) -> usize {
        self.cameras.len()
    }

    /// How many devices it had.
    #[must_use]
    pub const fn devices(&self) -> usize {
        self.devices
    }

    /// The accuracy that was measured in it, from its second window on.
    #[must_use]
    pub const fn measured(&self) -> f64 {
        self.measured
    }

    /// What can be expected of so many cameras on so many devices.
    ///
    /// # Errors
    /// [`CapacityError`].
    pub fn expect(&self, cameras: usize, devices: usize) -> Result<Expected, CapacityError> {
        let planned = self.planned(cameras, devices)?;
        let expected = |accuracy: f64| (accuracy + self.unplanned).clamp(0.0, 1.0);
        Ok(Expected {
            accuracy: expected(planned.accuracy),
            least_accuracy: expected(planned.least_accuracy),
            ..planned
        })
    }

    /// What plans alone say.
    fn planned(&self, cameras: usize, devices: usize) -> Result<Expected, CapacityError> {
        if cameras == 0 || devices == 0 {
            return Err(CapacityError::Nothing(cameras, devices));
        }
        let thief = Thief {
            stealing: Stealing::Exhaustive,
        };
        let played = self.play(cameras, devices, &thief)?;
        let set_aside = self.overhead.as_f64() * devices as f64 * self.window.as_secs_f64();
        Ok(Expected {
            cameras,
            devices,
            accuracy: played.accuracy,
            least_accuracy: played.least,
            retrainings: played.retrainings / cameras as f64,
            overhead: if set_aside > 0.0 {
                played.overhead_seconds / set_aside
            } else {
                0.0
            },
        })
    }

    /// Plays windows under a scheduler; means over them.
    fn play(
        &self,
        cameras: usize,
        devices: usize,
        scheduler: &dyn Scheduler,
    ) -> Result<Played, CapacityError> {
        let selections = if cameras.is_multiple_of(self.cameras.len()) {
            1
        } else {
            SELECTIONS.min(self.cameras.len())
        };
        let mut windows = Vec::new();
        for selection in 0..selections {
            let first = selection * self.cameras.len() / selections;
            let selected = (first..).map(|index| index % self.cameras.len());
            let selected: Vec<usize> = selected.take(cameras).collect();
            let mut lacks = vec![0.0; cameras];
            let count = self.cameras.iter().map(Vec::len).max().unwrap_or(0);
            for window in 0..count {
                let played = self.play_window(window, &selected, &mut lacks, devices, scheduler);
                windows.push(played.map_err(|source| CapacityError::Schedule {
                    cameras,
                    source: Box::new(source),
                })?);
            }
        }
        Ok(Played::mean(&windows))
    }

    /// Plays one window with the selected cameras, which lack so much of what they had in the run.
    fn play_window(
        &self,
        window: usize,
        selected: &[usize],
        lacks: &mut [f64],
        devices: usize,
        scheduler: &dyn Scheduler,
    ) -> Result<Played, ScheduleError> {
        let now = |camera: &usize| {
            let windows = &self.cameras[*camera];
            &windows[window % windows.len()]
        };
        let now: Vec<&Camera> = selected.iter().map(now).collect();
        let overhead_seconds: f64 = now.iter().map(|camera| camera.overhead_seconds).sum();
        let pace = self.overhead.as_f64() * devices as f64;
        let delay = if pace > 0.0 {
            ROUND * overhead_seconds / pace
        } else {
            0.0
        };
        let specs = now.iter().zip(&*lacks).enumerate();
        let capacity = Share::WHOLE.saturating_sub(self.overhead);
        let problem = Problem {
            labelling_delay: Duration::try_from_secs_f64(delay).unwrap_or(self.window),
            devices: vec![DeviceSpec::new(capacity); devices],
            streams: specs
                .map(|(index, (camera, lacks))| camera.spec(index, *lacks))
                .collect(),
            ..Problem::new(self.window)
        };
        let outcome = run_window(scheduler, &problem)?;
        let mut retrainings = 0.0;
        for ((lacks, camera), stream) in lacks.iter_mut().zip(&now).zip(&outcome.streams) {
            if stream.completed_at.is_some() {
                retrainings += 1.0;
                *lacks = 0.0;
            } else {
                *lacks += camera.gained;
            }
        }
        let accuracies = outcome.streams.iter().map(|stream| stream.mean_accuracy);
        Ok(Played {
            accuracy: outcome.mean_accuracy,
            least: accuracies.fold(1.0, f64::min),
            retrainings,
            overhead_seconds,
        })
    }
}

impl Camera {
    /// What a window says of a stream; nothing where its student was not profiled.
    fn of(stream: &WindowStream) -> Option<Self> {
        let accuracy = stream.student_accuracy?;
        let inference = stream.inference.iter().map(|one| InferenceOption {
            accuracy_factor: one.accuracy_factor,
            share: one.share,
        });
        let inference: Vec<_> = inference.collect();
        if inference.is_empty() {
            return None;
        }
        let retraining = stream.profiles.iter();
        let retraining =
            retraining.map(|one| RetrainingOption::new(one.end_accuracy, one.gpu_seconds));
        let gained = stream.retrainings.iter().filter_map(|one| {
            let counts = one.promoted && one.rolled_back.is_none();
            let gain = one.retrained_accuracy? - one.serving_accuracy?;
            counts.then_some(gain.max(0.0))
        });
        Some(Self {
            accuracy,
            inference,
            retraining: retraining.collect(),
            overhead_seconds: stream.labelling_seconds + stream.profiling_seconds,
            gained: gained.sum(),
        })
    }

    fn spec(&self, index: usize, lacks: f64) -> StreamSpec {
        StreamSpec {
            name: format!("camera {}", index + 1),
            accuracy: (self.accuracy - lacks).clamp(0.0, 1.0),
            inference: self.inference.clone(),
            retraining: self.retraining.clone(),
            ..StreamSpec::default()
        }
    }
}

/// What has come of windows, in the mean.
#[derive(Debug, Clone, Copy, Default)]
struct Played {
    accuracy: f64,
    least: f64,
    retrainings: f64,
    overhead_seconds: f64,
}

impl Played {
    fn mean(windows: &[Self]) -> Self {
        let of = |value: fn(&Self) -> f64| {
            mean(&windows.iter().map(value).collect::<Vec<_>>()).unwrap_or(0.0)
        };
        Self {
            accuracy: of(|one| one.accuracy),
            least: of(|one| one.least),
            retrainings: of(|one| one.retrainings),
            overhead_seconds: of(|one| one.overhead_seconds),
        }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use ekya_sched::RetrainingConfig;
    use proptest::prelude::*;

    use super::*;
    use crate::record::{InferenceRecord, ProfileRecord};
    use crate::report::synthetic;

    /// Four cameras; see [`synthetic`].
    fn record() -> RunRecord {
        synthetic::records(&[1], &[None], &["ekya"]).remove(0).1
    }

    /// A run of one camera, whose student falls to `accuracy` without the retraining that its only
    /// profile is of, and of which inference needs a fifth of the device.
    fn of_one_camera(accuracy: f64, end_accuracy: f64, gpu_seconds: f64) -> Capacity {
        let mut record = record();
        record.streams.truncate(1);
        for window in &mut record.windows {
            window.streams.truncate(1);
            let stream = &mut window.streams[0];
            stream.student_accuracy = Some(accuracy);
            stream.inference = vec![InferenceRecord {
                sample_every: 1,
                resolution: 1.0,
                accuracy_factor: 1.0,
                share: Share::from_micro(200_000),
            }];
            stream.profiles = vec![ProfileRecord {
                config: RetrainingConfig::default(),
                end_accuracy,
                gpu_seconds,
            }];
            stream.retrainings.clear();
            (stream.labelling_seconds, stream.profiling_seconds) = (0.0, 0.0);
        }
        Capacity::of(&record).unwrap()
    }

    #[test]
    fn one_camera_gets_what_it_could_have_and_not_more() {
        // 20 s windows; of .7 of a device, .2 are for inference: 2 s of work take 4 s at .5.
        let expected = of_one_camera(0.5, 0.9, 2.0).planned(1, 1).unwrap();
        let all = 0.9;
        assert!(expected.accuracy > 0.5 + 0.4 * 0.75 && expected.accuracy < all);
        assert_eq!(expected.retrainings, 1.0);
    }

    #[test]
    fn a_camera_more_than_inference_has_room_for_costs_the_others() {
        let capacity = of_one_camera(0.8, 0.8, 1.0);
        let three = capacity.planned(3, 1).unwrap();
        assert!((three.accuracy - 0.8).abs() < 1e-9, "three times .2 fit");
        let six = capacity.planned(6, 1).unwrap();
        assert!(six.accuracy < 0.8 * 0.7, "{six:?}");
        // Another device has room for them.
        let on_two = capacity.planned(6, 2).unwrap();
        assert!((on_two.accuracy - 0.8).abs() < 1e-9, "{on_two:?}");
    }

    #[test]
    fn what_retraining_gave_in_the_run_is_missed_when_there_is_no_time_for_it() {
        let mut record = record();
        for window in &mut record.windows {
            for stream in &mut window.streams {
                // More than all windows together.
                stream.profiles[0].gpu_seconds = 1000.0;
            }
        }
        let expected = Capacity::of(&record).unwrap().planned(4, 1).unwrap();
        assert_eq!(expected.retrainings, 0.0);
        // Its gains would have been there from the next window on: they are not at hand.
        assert!(expected.accuracy < 0.7, "{expected:?}");
    }

    #[test]
    fn labels_of_more_cameras_take_more_of_what_is_set_aside() {
        let capacity = Capacity::of(&record()).unwrap();
        let four = capacity.expect(4, 1).unwrap();
        // 3.3 s each of 20 s, of which .3 are set aside.
        assert!((four.overhead - 4.0 * 3.3 / 6.0).abs() < 1e-9, "{four:?}");
        let eight = capacity.expect(8, 2).unwrap();
        assert!((eight.overhead - four.overhead).abs() < 1e-9);
    }

    #[test]
    fn of_as_many_cameras_as_the_run_had_what_it_measured_is_expected() {
        let capacity = Capacity::of(&record()).unwrap();
        let expected = capacity.expect(4, 1).unwrap();
        assert!((expected.accuracy - 0.69).abs() < 1e-9, "{expected:?}");
        assert!(capacity.expect(12, 1).unwrap().accuracy < expected.accuracy);
    }

    #[test]
    fn a_run_without_profiles_says_nothing() {
        let mut record = record();
        record.windows.truncate(1);
        let error = Capacity::of(&record).unwrap_err();
        assert!(matches!(error, CapacityError::NotProfiled), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        /// Cameras that are all alike have no less of a device each than one more of them would leave.
        #[test]
        fn one_more_gives_nothing_to_the_others(
            accuracy in 0.2..0.8_f64,
            gain in 0.0..0.2_f64,
            gpu_seconds in 0.1..20.0_f64,
        ) {
            let capacity = of_one_camera(accuracy, accuracy + gain, gpu_seconds);
            let mut before = 1.0;
            for cameras in 1..8 {
                let expected = capacity.planned(cameras, 1).unwrap();
                // Shares are moved in steps.
                prop_assert!(expected.accuracy <= before + 0.02, "{expected:?} after {before}");
                prop_assert!(expected.accuracy <= accuracy + gain + 1e-9);
                before = expected.accuracy;
            }
        }
    }
}
