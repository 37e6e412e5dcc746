//! The root file system of a container: the host's files below, a file
//! system in memory above. What a container writes is its own and is gone
//! with it, and volumes may be mounted at paths the host does not have.
//!
//! Each directory of the host's root is layered by itself: in a user
//! namespace the kernel does not let the whole root be layered, because that
//! would show what other mounts cover.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use super::Spec;
use crate::lab::enter::{self, EnterError};

/// Where the old root is during the change, in the new one.
const OLD_ROOT: &str = ".lab-host";
/// Never the host's: it holds the sockets of its services.
const OWN_RUN: &str = "run";

/// Builds the root described by `spec` and moves this process into it.
pub(crate) fn build(spec: &Spec) -> Result<(), EnterError> {
    let io_at = |path: &Path, error: io::Error| EnterError::Mount {
        what: path.display().to_string(),
        errno: nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO)),
    };
    let root = assemble(&spec.scratch, &spec.run_dir).map_err(|error| io_at(&spec.scratch, error))?;
    hide_lab(&root, &spec.run_dir)?;

    let old = root.join(OLD_ROOT);
    fs::create_dir_all(&old).map_err(|error| io_at(&old, error))?;
    let moved = |errno| EnterError::Mount { what: "the container's root".to_owned(), errno };
    pivot_root(&root, &old).map_err(moved)?;
    chdir("/").map_err(moved)?;

    // From here paths are the container's, so that links lead where they
    // would inside. Not being able to show the processes is no reason to fail.
    let _ = enter::mount_proc();
    for wanted in &spec.mounts {
        let source = inside_old(&wanted.source);
        make_target(&source, &wanted.target).map_err(|error| io_at(&wanted.target, error))?;
        enter::bind(&source, &wanted.target, MsFlags::MS_REC)?;
        if wanted.read_only {
            // Refused for some file systems in a user namespace; the source
            // is the container's own copy in any case.
            let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            let _ = enter::bind(&wanted.target, &wanted.target, read_only);
        }
    }
    for (path, text) in &spec.files {
        write_over(path, text).map_err(|error| io_at(path, error))?;
    }
    let old = Path::new("/").join(OLD_ROOT);
    umount2(&old, MntFlags::MNT_DETACH).map_err(moved)?;
    let _ = fs::remove_dir(&old);
    Ok(())
}

/// Puts a root together from the entries of the host's and returns it.
fn assemble(scratch: &Path, run_dir: &Path) -> io::Result<PathBuf> {
    mount(Some("lab"), scratch, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))?;
    let root = scratch.join("root");
    fs::create_dir(&root)?;
    // A root must be a mount of its own to be moved to.
    mount(Some(&root), &root, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    // The lab's own mounts are no obstacle, and its directory is hidden anyway.
    // Counting them would leave the directory it is in, /tmp, without a layer.
    let mut mounts = mount_points(&fs::read_to_string("/proc/self/mountinfo")?);
    mounts.retain(|point| !point.starts_with(run_dir));
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        let (host, here) = (entry.path(), root.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            symlink(fs::read_link(&host)?, &here)?;
        } else if entry.file_name() == OWN_RUN {
            fs::create_dir(&here)?;
            copy_links(&host, &here);
        } else if kind.is_dir() {
            fs::create_dir(&here)?;
            let covered = mounts.iter().any(|point| point.starts_with(&host));
            let layered = !covered && layer(scratch, &host, &here).is_ok();
            if !layered {
                // What may be neither layered nor bound is not seen inside.
                let _ = enter::bind(&host, &here, MsFlags::MS_REC);
            }
        } else if fs::File::create(&here).is_ok() {
            let _ = enter::bind(&host, &here, MsFlags::empty());
        }
    }
    for needed in [OWN_RUN, "tmp", "etc"] {
        fs::create_dir_all(root.join(needed))?;
    }
    Ok(root)
}

/// Mounts a directory of the host with a layer above it.
fn layer(scratch: &Path, host: &Path, here: &Path) -> io::Result<()> {
    let name = host.file_name().unwrap_or_default();
    let [upper, work] = ["upper", "work"].map(|kind| scratch.join(kind).join(name));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    // The layer's top has the mode of what it covers: /tmp stays open to all.
    fs::set_permissions(&upper, host.metadata()?.permissions())?;
    let layers = format!("lowerdir={},upperdir={},workdir={}", host.display(), upper.display(), work.display());
    // In a user namespace the layer keeps its marks in user attributes.
    let in_user_namespace = format!("{layers},userxattr");
    mount(Some("lab"), here, Some("overlay"), MsFlags::empty(), Some(in_user_namespace.as_str()))
        .or_else(|_| mount(Some("lab"), here, Some("overlay"), MsFlags::empty(), Some(layers.as_str())))?;
    Ok(())
}

/// Some systems keep links to their programs in `/run`.
fn copy_links(host: &Path, here: &Path) {
    for entry in fs::read_dir(host).into_iter().flatten().flatten() {
        if let Ok(target) = fs::read_link(entry.path()) {
            let _ = symlink(target, here.join(entry.file_name()));
        }
    }
}

/// Covers the lab's directory, which holds keys and other pods' files, with
/// an empty one that shows only this program.
fn hide_lab(root: &Path, run_dir: &Path) -> Result<(), EnterError> {
    let covered = below(root, run_dir);
    fs::create_dir_all(&covered).map_err(|source| EnterError::Start { what: "container", source })?;
    mount(Some("lab"), &covered, Some("tmpfs"), MsFlags::empty(), Some("mode=0755,size=64k"))
        .map_err(|errno| EnterError::Mount { what: run_dir.display().to_string(), errno })?;
    let bin = covered.join("bin");
    fs::create_dir(&bin).map_err(|source| EnterError::Start { what: "container", source })?;
    enter::bind(&run_dir.join("bin"), &bin, MsFlags::MS_REC)
}

/// Where something is mounted, from the text of `/proc/self/mountinfo`.
fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| unescape(point).into()).collect()
}

/// Undoes the octal escapes of mountinfo (space, tab, newline, backslash).
fn unescape(field: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn inside_old(path: &Path) -> PathBuf {
    below(&Path::new("/").join(OLD_ROOT), path)
}

/// Makes what a mount needs to be mounted on: a directory, or a file.
fn make_target(source: &Path, target: &Path) -> io::Result<()> {
    if source.is_dir() {
        return fs::create_dir_all(target);
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::OpenOptions::new().create(true).append(true).open(target).map(drop)
}

/// Replaces a file, also one that is a link to elsewhere.
fn write_over(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::write(path, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let mountinfo = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
25 24 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
26 22 0:23 / /with\\040space rw - tmpfs tmpfs rw
";
        let points: Vec<_> = ["/", "/sys/fs/cgroup", "/with space"].map(PathBuf::from).into();
        assert_eq!(mount_points(mountinfo), points);
        assert_eq!(mount_points("nonsense\n"), Vec::<PathBuf>::new());
    }
}
