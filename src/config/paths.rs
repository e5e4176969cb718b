//! Paths in a configuration: environment variables filled in, relative ones made relative to the
//! configuration's folder.

use std::path::{Path, PathBuf};

use super::{
    BUILT_IN_WEIGHTS, Config, ConfigError, DetectorTeacherConfig, OnnxTeacherConfig, OutputConfig,
    SourceConfig, StudentConfig, TeacherConfig,
};

/// Looks an environment variable up.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Resolves every path of `config` against `folder`.
pub(super) fn resolve(
    config: &mut Config,
    folder: &Path,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    if let Some(state) = &mut config.run.state {
        path(state, folder, &variable)?;
    }
    if let Some(cluster) = &mut config.cluster {
        path(&mut cluster.certs, folder, &variable)?;
    }
    if let Some(serve) = &mut config.serve {
        let files = [
            &mut serve.token_file,
            &mut serve.certificate,
            &mut serve.key,
        ];
        for file in files.into_iter().flatten() {
            path(file, folder, &variable)?;
        }
    }
    for file in config.outputs.iter_mut().flat_map(OutputConfig::paths) {
        path(file, folder, &variable)?;
    }
    for stream in &mut config.streams {
        match &mut stream.source {
            SourceConfig::Folder(source) => path(&mut source.path, folder, &variable)?,
            SourceConfig::Video(source) => {
                source.input.try_map(|text| expand(text, &variable))?;
                source.input.resolve(folder);
            }
            SourceConfig::Scene(_) | SourceConfig::Own(_) => {}
        }
        match &mut stream.student {
            StudentConfig::Classifier(student) => {
                let weights = student.weights.as_mut();
                let own = weights.filter(|path| path.as_os_str() != BUILT_IN_WEIGHTS);
                for file in own.into_iter().chain(&mut student.backbone) {
                    path(file, folder, &variable)?;
                }
            }
            StudentConfig::FastestDet(student)
            | StudentConfig::TinyYoloV3(student)
            | StudentConfig::SsdLite(student) => {
                for file in student.weights.iter_mut().chain(&mut student.backbone) {
                    path(file, folder, &variable)?;
                }
            }
            StudentConfig::Own(_) => {}
        }
        match &mut stream.teacher {
            TeacherConfig::Classifier { weights: file }
            | TeacherConfig::Onnx(OnnxTeacherConfig { model: file, .. })
            | TeacherConfig::Yolox { model: file }
            | TeacherConfig::Detector(DetectorTeacherConfig { weights: file, .. }) => {
                path(file, folder, &variable)?;
            }
            TeacherConfig::Scene | TeacherConfig::Labels | TeacherConfig::Own(_) => {}
        }
    }
    Ok(())
}

fn path(path: &mut PathBuf, folder: &Path, variable: Lookup<'_>) -> Result<(), ConfigError> {
    // A path that is no UTF-8 cannot have come from a configuration, which is.
    if let Some(text) = path.to_str() {
        *path = folder.join(expand(text, variable)?);
    }
    Ok(())
}

/// `text` with every `${NAME}` replaced.
fn expand(text: &str, variable: Lookup<'_>) -> Result<String, ConfigError> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        let value = variable(name).ok_or_else(|| ConfigError::Variable {
            path: text.to_owned(),
            name: name.to_owned(),
        })?;
        out.push_str(before);
        out.push_str(&value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        (name == "DATA").then(|| "/data".to_owned())
    }

    #[test]
    fn variables_are_filled_in() {
        assert_eq!(expand("${DATA}/a.avi", &variable).unwrap(), "/data/a.avi");
        assert_eq!(
            expand("a${DATA}b${DATA}", &variable).unwrap(),
            "a/datab/data"
        );
        assert_eq!(
            expand("no $DATA here ${", &variable).unwrap(),
            "no $DATA here ${"
        );
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = expand("${ABSENT}/x", &variable).unwrap_err().to_string();
        assert!(error.contains("ABSENT"), "{error}");
    }

    #[test]
    fn relative_paths_follow_the_file() {
        let mut relative = PathBuf::from("a/b");
        path(&mut relative, Path::new("/etc/ekya"), &variable).unwrap();
        assert_eq!(relative, Path::new("/etc/ekya/a/b"));
        let mut absolute = PathBuf::from("${DATA}/b");
        path(&mut absolute, Path::new("/etc/ekya"), &variable).unwrap();
        assert_eq!(absolute, Path::new("/data/b"));
    }
}
