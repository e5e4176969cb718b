//! Students trained before in place of retraining.

use super::none::serve;
use crate::placement::plan_devices;
use crate::timeline::push;
use crate::{Likeness, Plan, Problem, ScheduleError, Scheduler, Segment, StreamPlan, StreamSpec};

/// Serves every stream with the cached student whose training scene is most like what the stream
/// shows, and retrains nobody. A stream without cached students, or of which nothing is known,
/// keeps its student.
///
/// As in the paper, nobody checks whether the student chosen is any better: likeness is all there
/// is to go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reuse {
    /// By what scenes are compared.
    pub by: Likeness,
}

impl Scheduler for Reuse {
    fn name(&self) -> String {
        let by = match self.by {
            Likeness::Classes => "classes",
            Likeness::Hour => "hour",
            Likeness::Objects => "objects",
            Likeness::Location => "location",
        };
        format!("reuse:{by}")
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        let mut plan = plan_devices(problem, &serve)?;
        for (plan, spec) in plan.streams.iter_mut().zip(&problem.streams) {
            if let Some(chosen) = self.most_alike(spec) {
                *plan = with_student(plan, spec, chosen);
            }
        }
        Ok(Plan::new(plan.streams, problem))
    }
}

impl Reuse {
    /// Index of the cached student to serve with, the first of equals.
    fn most_alike(self, spec: &StreamSpec) -> Option<usize> {
        let scene = spec.scene.as_ref()?;
        let distance = |index: usize| spec.cached[index].scene.distance(scene, self.by);
        (0..spec.cached.len()).min_by(|&a, &b| distance(a).total_cmp(&distance(b)))
    }
}

/// The same shares with another student.
fn with_student(plan: &StreamPlan, spec: &StreamSpec, chosen: usize) -> StreamPlan {
    let mut timeline = Vec::new();
    for segment in &plan.timeline {
        let accuracy = spec.cached[chosen].accuracy * spec.factor_of(segment.inference);
        push(
            &mut timeline,
            Segment {
                accuracy,
                ..*segment
            },
        );
    }
    StreamPlan {
        device: plan.device,
        training_device: plan.training_device,
        reused: Some(chosen),
        reason: format!("cached student {chosen} was trained on what is most alike"),
        ..StreamPlan::new(timeline)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::simulate::run_window;
    use crate::{CachedStudent, DeviceSpec, InferenceOption, Scene, Share};

    fn at(hour: f64) -> Scene {
        Scene {
            hour,
            ..Scene::default()
        }
    }

    fn problem(cached: &[(f64, f64)]) -> Problem {
        let student = |&(hour, accuracy): &(f64, f64)| CachedStudent {
            scene: at(hour),
            accuracy,
        };
        Problem {
            devices: vec![DeviceSpec::new(Share::WHOLE)],
            streams: vec![StreamSpec {
                name: "a".into(),
                accuracy: 0.6,
                inference: vec![InferenceOption {
                    accuracy_factor: 0.5,
                    share: Share::WHOLE,
                }],
                scene: Some(at(23.0)),
                cached: cached.iter().map(student).collect(),
                ..StreamSpec::default()
            }],
            ..Problem::new(Duration::from_secs(100))
        }
    }

    #[test]
    fn the_student_of_the_likest_scene_serves_however_good_it_is() -> Result<(), ScheduleError> {
        let by_hour = Reuse { by: Likeness::Hour };
        let problem = problem(&[(12.0, 0.9), (1.0, 0.4)]);
        let plan = by_hour.plan(&problem)?;
        assert_eq!(plan.check(&problem), Ok(()));
        assert_eq!(plan.streams[0].reused, Some(1));
        let outcome = run_window(&by_hour, &problem)?;
        assert!((outcome.mean_accuracy - 0.4 * 0.5).abs() < 1e-9);
        assert_eq!(outcome.streams[0].end_accuracy, 0.4);
        Ok(())
    }

    #[test]
    fn without_cached_students_the_own_goes_on() -> Result<(), ScheduleError> {
        let outcome = run_window(&Reuse { by: Likeness::Hour }, &problem(&[]))?;
        assert!((outcome.mean_accuracy - 0.3).abs() < 1e-9);
        Ok(())
    }
}
