//! Streams cut into rounds, to try retrainings on outside of a running node: no shares, no windows,
//! no clock. What is labelled in a round is trained on, its latest part held out; other frames from
//! the time of that part tell the truth.

use ekya_models::{ModelError, Student, Teacher};

use crate::learn::Labelled;
use crate::source::scene::{Preset, SceneConfig, SceneSource};
use crate::source::{Frame, Source, SourceError};
use crate::stream::{Metric, Sample};
use crate::train::TrainError;

/// A stretch of a stream.
pub struct Round {
    /// All its frames.
    pub frames: Vec<Frame>,
    /// Some of them, as the teacher labels them.
    pub labelled: Vec<Labelled>,
    /// How right a student is now shows on these. Of a folder, they are the latest of its frames, which
    /// are held out when it is learnt from. Of a scene, they are of other traffic at that time: in the
    /// round itself half a dozen objects pass then, and whether a student knows just those is chance.
    pub judged: Vec<Frame>,
}

/// Part of a round, the latest, whose time they are of.
const JUDGED: f64 = 0.3;

/// Other traffics in the truth of a round of a scene.
const TRAFFICS: u32 = 8;

/// Of a scene's other traffic every so many frames: neighbours show the same objects.
const JUDGED_EVERY: usize = 3;

/// How a procedural scene is cut into rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SceneRounds {
    /// Frames a second.
    pub fps: usize,
    /// Seconds of traffic in a second, so that a short scene sees many objects.
    pub pace: f64,
    /// Length of a round in seconds.
    pub seconds: usize,
    /// Rounds; the scene drifts during the first half of them.
    pub rounds: usize,
    /// Labelled frames a second, at most `fps`.
    pub labels_per_second: usize,
}

impl Default for SceneRounds {
    fn default() -> Self {
        Self {
            fps: 10,
            pace: 4.0,
            seconds: 12,
            rounds: 8,
            labels_per_second: 5,
        }
    }
}

impl SceneRounds {
    /// Draws a scene and has it labelled.
    ///
    /// # Errors
    /// When the scene cannot be drawn or the teacher fails.
    pub fn of(
        &self,
        preset: Preset,
        seed: u64,
        teacher: &dyn Teacher,
    ) -> Result<Vec<Round>, TrainError> {
        let config = SceneConfig {
            fps: self.fps as f64,
            seed,
            preset: Some(preset),
            drift_seconds: (self.rounds * self.seconds) as f64 / 2.0,
            pace: self.pace,
            ..SceneConfig::default()
        };
        let mut source = SceneSource::new(config.clone()).map_err(SourceError::from)?;
        let mut rounds = Vec::new();
        for round in 0..self.rounds {
            let mut frames = Vec::new();
            for _ in 0..self.fps * self.seconds {
                frames.extend(source.next_frame()?);
            }
            let sampled = frames.iter().step_by(self.fps / self.labels_per_second);
            let labelled = sampled
                .map(|frame| label(teacher, frame))
                .collect::<Result<_, _>>()?;
            rounds.push(Round {
                frames,
                labelled,
                judged: self.judged(&config, round)?,
            });
        }
        Ok(rounds)
    }

    fn judged(&self, config: &SceneConfig, round: usize) -> Result<Vec<Frame>, SourceError> {
        let frames = self.fps * self.seconds;
        let count = (frames as f64 * JUDGED) as usize;
        let from = (round + 1) * frames - count;
        let mut judged = Vec::new();
        for traffic in 0..TRAFFICS {
            // Each round has traffic of its own.
            let traffic = round as u32 * TRAFFICS + traffic;
            let mut source = SceneSource::with_other_traffic(config.clone(), traffic, from as u64)?;
            for index in 0..count {
                let frame = source.next_frame()?;
                judged.extend(frame.filter(|_| index % JUDGED_EVERY == 0));
            }
        }
        Ok(judged)
    }
}

fn label(teacher: &dyn Teacher, frame: &Frame) -> Result<Labelled, ModelError> {
    let labels = teacher.label(&frame.image, &frame.regions)?;
    Ok(Labelled::new(sample(frame), labels))
}

fn sample(frame: &Frame) -> Sample {
    Sample {
        frame: frame.clone(),
        at: frame.at.as_secs_f64(),
        taken_at: 0,
        answer: None,
        burst: false,
    }
}

/// Cuts a source that knows the truth, a labelled folder, into rounds of `frames` frames, of which
/// every `label_every`-th is labelled with it. What is left at the end is no round.
///
/// # Errors
/// When the source fails.
pub fn folder_rounds(
    source: &mut dyn Source,
    frames: usize,
    label_every: usize,
) -> Result<Vec<Round>, SourceError> {
    let mut rounds = Vec::new();
    let mut round = Vec::with_capacity(frames);
    while let Some(frame) = source.next_frame()? {
        round.push(frame);
        if round.len() == frames {
            let labelled = round.iter().step_by(label_every.max(1)).map(|frame| {
                let labels = frame.truth.clone().unwrap_or_default();
                Labelled::new(sample(frame), labels)
            });
            let count = (frames as f64 * JUDGED) as usize;
            rounds.push(Round {
                labelled: labelled.collect(),
                judged: round[frames - count..].to_vec(),
                frames: std::mem::take(&mut round),
            });
        }
    }
    Ok(rounds)
}

/// Mean accuracy of a student against the truth; 0 where there is nothing to score.
///
/// # Errors
/// When the student fails.
pub fn accuracy<'a>(
    student: &dyn Student,
    frames: impl IntoIterator<Item = &'a Frame>,
) -> Result<f64, ModelError> {
    let mut scores = Vec::new();
    for frame in frames {
        let answers = student.infer(&frame.image, &frame.regions, 1.0)?;
        let truth = frame.truth.as_deref().unwrap_or_default();
        scores.extend(Metric::Accuracy.score(truth, &answers));
    }
    Ok(scores.iter().sum::<f64>() / scores.len().max(1) as f64)
}
