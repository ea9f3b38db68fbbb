//! The directory that is exported to. No symbolic link in it is followed, whoever put it there: each name is opened in the
//! directory that holds it, by itself.

use rustix::fs::{AtFlags, Mode, OFlags, RawMode};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Rights of files that are made.
const FILE_MODE: RawMode = 0o600;
/// Rights of directories that are made.
const DIR_MODE: RawMode = 0o700;

/// An open directory.
#[derive(Debug)]
pub(super) struct Place(OwnedFd);

impl Place {
    /// The outermost one. Made durably if it is not there, with those above it.
    pub(super) fn make(path: &Path) -> io::Result<Place> {
        let path = std::path::absolute(path)?;
        let made: Vec<&Path> = path.ancestors().take_while(|dir| !dir.exists()).collect();
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(&path)?;
        for parent in made.into_iter().filter_map(Path::parent) {
            Place::open(parent)?.sync()?;
        }
        Place::open(&path)
    }

    /// The outermost one, which must be there.
    pub(super) fn open(path: &Path) -> io::Result<Place> {
        Ok(Place(rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// A directory in this one.
    pub(super) fn inner(&self, name: &str) -> io::Result<Place> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Place(rustix::fs::openat(&self.0, checked(name)?, flags, Mode::empty())?))
    }

    /// A directory in this one, made durably if it is not there.
    fn make_inner(&self, name: &str) -> io::Result<Place> {
        match rustix::fs::mkdirat(&self.0, checked(name)?, Mode::from_raw_mode(DIR_MODE)) {
            Ok(()) => self.sync()?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.inner(name)
    }

    /// The directory at a path from here, `/` between its parts. With `make`, what is missing of it is made.
    pub(super) fn at(&self, path: &str, make: bool) -> io::Result<Place> {
        let mut place = Place(self.0.try_clone()?);
        for part in path.split('/').filter(|_| !path.is_empty()) {
            place = if make { place.make_inner(part)? } else { place.inner(part)? };
        }
        Ok(place)
    }

    /// A new file. One of this name is removed before: whatever it is, nobody writes into it.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        self.remove(name)?;
        self.open_file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
    }

    /// A file that is read and written, made if it is not there.
    pub(super) fn edit(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlags::RDWR | OFlags::CREATE)
    }

    /// A file that is read.
    pub(super) fn read(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlags::RDONLY)
    }

    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        // Nobody waits for the other end of a pipe.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, checked(name)?, flags, Mode::from_raw_mode(FILE_MODE))?;
        let file = File::from(file);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
        }
        Ok(file)
    }

    /// Gives a file another name, in place of what had that.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, checked(from)?, &self.0, checked(to)?)?)
    }

    /// Removes a file if it is there.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, checked(name)?, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What is in it: each name, and whether it is a directory. Names that are no text are told as far as they are.
    pub(super) fn for_each(&self, take: &mut dyn FnMut(&str, bool) -> io::Result<()>) -> io::Result<()> {
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            if name != "." && name != ".." {
                let stat = rustix::fs::statat(&self.0, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
                take(&name, rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())?;
            }
        }
        Ok(())
    }

    /// Has the names in it survive.
    pub(super) fn sync(&self) -> io::Result<()> {
        match rustix::fs::fsync(&self.0) {
            // Some file systems cannot sync a directory, and need not.
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A name of something in a directory, and of nothing else.
fn checked(name: &str) -> io::Result<&str> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no name of a file"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn no_link_is_followed_and_no_name_climbs_out() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("file"), b"theirs").unwrap();
        let place = Place::make(&dir.path().join("a/b")).unwrap();
        symlink(outside.path(), dir.path().join("a/b/link")).unwrap();
        symlink(outside.path().join("file"), dir.path().join("a/b/file")).unwrap();
        assert!(place.at("link", false).is_err() && place.at("link/x", true).is_err());
        assert!(place.read("file").is_err() && place.edit("file").is_err());
        for name in ["..", ".", "", "x/y", "../x"] {
            assert!(place.create(name).is_err(), "{name}");
        }
        assert!(place.at("../x", true).is_err());
        drop(place.create("file").unwrap());
        assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"theirs");
        drop(place.at("c/d", true).unwrap().create("e").unwrap());
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode("a"), mode("a/b/c/d"), mode("a/b/c/d/e"), mode("a/b/file")),
            (0o700, 0o700, 0o600, 0o600)
        );
    }
}
