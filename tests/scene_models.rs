//! What the built-in student and teacher of the procedural scene promise.
#![cfg(feature = "torch")]

use std::time::Instant;

use ekya::node::{builtin_student, builtin_teacher};
use ekya::source::Source;
use ekya::source::scene::{SceneConfig, SceneSource};
use ekya::train::{Conditions, scene_accuracy};
use ekya_models::{Placement, Student, set_compute_threads};

#[test]
fn the_student_is_right_undrifted_and_the_teacher_far_better_after_drift() {
    let student = builtin_student(Placement::Cpu).unwrap();
    let teacher = builtin_teacher(Placement::Cpu).unwrap();
    let undrifted = scene_accuracy(&student, 300, Conditions::Undrifted).unwrap();
    assert!(undrifted >= 0.8, "student, undrifted: {undrifted:.3}");
    let [student, teacher] =
        [&student, &teacher].map(|model| scene_accuracy(model, 600, Conditions::Any).unwrap());
    println!("undrifted {undrifted:.3}; drifted: student {student:.3}, teacher {teacher:.3}");
    assert!(
        teacher >= student + 0.08,
        "student {student:.3}, teacher {teacher:.3}"
    );
}

#[test]
fn the_teacher_costs_at_least_ten_students() {
    let student = builtin_student(Placement::Cpu).unwrap();
    let teacher = builtin_teacher(Placement::Cpu).unwrap();
    let [cheap, dear] = [&student, &teacher].map(|model| model.multiply_adds());
    assert!(
        dear >= 10 * cheap,
        "{cheap} and {dear} multiply-adds a crop"
    );

    // Times are printed only: this machine may be busy.
    set_compute_threads(1);
    let mut source = SceneSource::new(SceneConfig::default()).unwrap();
    let frame = source.next_frame().unwrap().unwrap();
    let milliseconds = |model: &dyn Student| {
        let start = Instant::now();
        for _ in 0..20 {
            model.infer(&frame.image, &frame.regions, 1.0).unwrap();
        }
        start.elapsed().as_secs_f64() * 50.0
    };
    println!(
        "student {:.2} ms, teacher {:.2} ms a frame",
        milliseconds(&student),
        milliseconds(&teacher)
    );
}

#[test]
fn the_weights_are_small_enough_to_commit() {
    for file in ["scene-student", "scene-teacher"] {
        let path = format!(
            "{}/src/node/weights/{file}.safetensors",
            env!("CARGO_MANIFEST_DIR")
        );
        assert!(std::fs::metadata(path).unwrap().len() <= 4 << 20);
    }
}
