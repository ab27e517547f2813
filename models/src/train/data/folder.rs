//! Folders of class folders.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tubelet_engine::{Error, Result};

use super::{Entry, Finding, Listing, first_few};

/// Extensions of files that lie beside clips and are none. Everything else is taken for a clip.
const NO_CLIPS: [&str; 22] = [
    "ass", "cfg", "csv", "db", "html", "ini", "json", "jsonl", "log", "md", "npy", "npz", "pdf", "pkl", "py", "srt", "sub",
    "toml", "tsv", "txt", "vtt", "xml",
];

/// The clips of a folder that has a folder for each class. Classes are numbered in the order of
/// their names. Names that begin with a dot are hidden, and not looked at.
pub(super) fn read(path: &Path) -> Result<Listing> {
    let (mut entries, mut names, mut findings) = (Vec::new(), Vec::<String>::new(), Vec::new());
    let (mut passed_over, mut beside, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    for class in visible(path)? {
        if !class.is_dir() {
            beside.push(class.file_name().unwrap_or_default().to_string_lossy().into_owned());
            continue;
        }
        let name = class_name(&class)?;
        if names.contains(&name) {
            let message = format!("two class folders have the name {name:?} when shown as UTF-8; rename one of them");
            return Err(Error::format(path.display().to_string(), message));
        }
        let (clips, others): (Vec<_>, Vec<_>) = visible(&class)?.into_iter().partition(|file| may_be_clip(file));
        passed_over.extend(others.iter().map(|file| file.display().to_string()));
        if clips.is_empty() {
            empty.push(name.clone());
        }
        entries.extend(clips.into_iter().map(|path| Entry { path, labels: vec![names.len()], line: None }));
        names.push(name);
    }
    let mut tell = |found: &[String], text: &str| {
        if !found.is_empty() {
            findings.push(Finding::Note(format!("{}: {text}: {}", path.display(), first_few(found))));
        }
    };
    tell(&empty, "class folders without clips");
    tell(&passed_over, "files that are no videos and are passed over");
    tell(&beside, "files that are in no class folder and are passed over");
    if names.is_empty() {
        return Err(Error::format(path.display().to_string(), "no class folders: expected a folder of videos for each class"));
    }
    Ok(Listing { entries, names: Some(names), findings })
}

/// The names of the classes by number.
pub(super) fn names(path: &Path) -> Result<Vec<String>> {
    visible(path)?.iter().filter(|class| class.is_dir()).map(|class| class_name(class)).collect()
}

/// What a folder holds, by name, without hidden files.
fn visible(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path).map_err(Error::io(path))?;
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(Error::io(path))?;
    paths.retain(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
    paths.sort();
    Ok(paths)
}

/// The name of a class: labels are kept one on a line.
fn class_name(folder: &Path) -> Result<String> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.contains(['\n', '\r']) {
        return Err(Error::format(folder.display().to_string(), "the name of a class has no line breaks"));
    }
    Ok(name)
}

fn may_be_clip(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    path.is_dir() || !extension.is_some_and(|extension| NO_CLIPS.contains(&extension.as_str()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hidden_folders_are_no_classes_and_other_files_are_told() {
        let here = std::env::temp_dir().join(format!("tubelet-folder-{}", std::process::id()));
        for file in [".hidden/a.y4m", "b/.thumbnail", "b/1.y4m", "b/notes.TXT", "a/1.y4m", "a/2.mp4", "readme.md", ".DS_Store"] {
            let path = here.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::create_dir_all(here.join("c")).unwrap();
        let Listing { entries, names, findings } = read(&here).unwrap();
        assert_eq!(names.unwrap(), ["a", "b", "c"]);
        let found: Vec<_> =
            entries.iter().map(|e| (e.path.strip_prefix(&here).unwrap().to_str().unwrap(), e.labels[0])).collect();
        assert_eq!(found, [("a/1.y4m", 0), ("a/2.mp4", 0), ("b/1.y4m", 1)]);
        let told: String = findings.iter().map(|finding| finding.to_string() + "\n").collect();
        assert!(told.contains("without clips: c\n") && told.contains("notes.TXT") && told.contains(": readme.md\n"), "{told}");
        assert!(!told.contains("DS_Store") && !told.contains("thumbnail"), "{told}");
        assert!(read(&here.join("a")).unwrap_err().to_string().contains("no class folders"));
        fs::remove_dir_all(here).unwrap();
    }
}
