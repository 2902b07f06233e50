//! The simulated disk: directories and files, each as it is now, as it is durable, and the changes in between.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::hash::{Hash, Hasher};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::content::Content;
use super::{Change, ChangeKind, Fate, Operation, Random};

/// The number of an inode.
pub(super) type Number = u64;
/// A refused operation: the operating system's error number.
pub(super) type Outcome<T> = Result<T, i32>;

const ROOT: Number = 0;
const PAGE_BYTES: u64 = 4096;

#[derive(Debug, Clone)]
pub(super) struct Disk {
    inodes: BTreeMap<Number, Inode>,
    next_number: Number,
}

#[derive(Debug, Clone)]
enum Inode {
    Directory(Directory),
    File(FileNode),
}

/// Invariant: `current` is `durable` with all of `pending` applied, until a sync of the directory fails.
#[derive(Debug, Clone, Default)]
struct Directory {
    current: BTreeMap<OsString, Number>,
    durable: BTreeMap<OsString, Number>,
    pending: Vec<(Change, EntryChange)>,
}

#[derive(Debug, Clone)]
enum EntryChange {
    Create { name: OsString, number: Number },
    Rename { to: OsString, number: Number },
    Remove { name: OsString, number: Number },
}

/// Invariant: `current` is `durable` with all of `pending` applied, until a sync of the file fails.
#[derive(Debug, Clone, Default)]
pub(super) struct FileNode {
    pub(super) current: Content,
    durable: Content,
    pending: Vec<(Change, ContentChange)>,
}

#[derive(Debug, Clone)]
enum ContentChange {
    Write { offset: u64, bytes: Arc<[u8]> },
    SetLength(u64),
}

impl Disk {
    pub(super) fn new() -> Disk {
        Disk { inodes: BTreeMap::from([(ROOT, Inode::Directory(Directory::default()))]), next_number: ROOT + 1 }
    }

    // ---- looking up ----------------------------------------------------------------------------------------------

    pub(super) fn find(&self, path: &Path) -> Outcome<Number> {
        let mut number = ROOT;
        for part in normalize(path).iter().skip(1) {
            number = *self.directory(number)?.current.get(part).ok_or(libc::ENOENT)?;
        }
        Ok(number)
    }

    pub(super) fn find_file(&self, path: &Path) -> Outcome<Number> {
        let number = self.find(path)?;
        self.file(number)?;
        Ok(number)
    }

    fn find_parent(&self, path: &Path) -> Outcome<(Number, OsString)> {
        let path = normalize(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(libc::EBUSY) };
        let parent = self.find(parent)?;
        self.directory(parent)?;
        Ok((parent, name.to_owned()))
    }

    fn directory(&self, number: Number) -> Outcome<&Directory> {
        match &self.inodes[&number] {
            Inode::Directory(directory) => Ok(directory),
            Inode::File(_) => Err(libc::ENOTDIR),
        }
    }

    fn directory_mut(&mut self, number: Number) -> Outcome<&mut Directory> {
        match self.inodes.get_mut(&number) {
            Some(Inode::Directory(directory)) => Ok(directory),
            _ => Err(libc::ENOTDIR),
        }
    }

    pub(super) fn file(&self, number: Number) -> Outcome<&FileNode> {
        match &self.inodes[&number] {
            Inode::File(file) => Ok(file),
            Inode::Directory(_) => Err(libc::EISDIR),
        }
    }

    pub(super) fn file_mut(&mut self, number: Number) -> Outcome<&mut FileNode> {
        match self.inodes.get_mut(&number) {
            Some(Inode::File(file)) => Ok(file),
            _ => Err(libc::EISDIR),
        }
    }

    /// Name, length and whether it is a directory, of each entry.
    pub(super) fn list(&self, path: &Path) -> Outcome<Vec<(OsString, u64, bool)>> {
        let entries = self.directory(self.find(path)?)?.current.iter();
        let describe = |(name, number): (&OsString, &Number)| match &self.inodes[number] {
            Inode::Directory(_) => (name.clone(), PAGE_BYTES, true),
            Inode::File(file) => (name.clone(), file.current.length(), false),
        };
        Ok(entries.map(describe).collect())
    }

    // ---- changing ------------------------------------------------------------------------------------------------

    pub(super) fn create_directory(&mut self, path: &Path, operation: (u64, Operation)) -> Outcome<()> {
        let inode = Inode::Directory(Directory::default());
        self.create_inode(path, inode, operation, ChangeKind::CreateDirectory).map(drop)
    }

    /// An existing file is emptied.
    pub(super) fn create_file(&mut self, path: &Path, operation: (u64, Operation)) -> Outcome<Number> {
        match self.find(path) {
            Ok(number) => {
                self.file_mut(number)?.set_length(0, path, operation);
                Ok(number)
            }
            Err(libc::ENOENT) => {
                self.create_inode(path, Inode::File(FileNode::default()), operation, ChangeKind::Create)
            }
            Err(errno) => Err(errno),
        }
    }

    fn create_inode(
        &mut self,
        path: &Path,
        inode: Inode,
        operation: (u64, Operation),
        kind: ChangeKind,
    ) -> Outcome<Number> {
        let (parent, name) = self.find_parent(path)?;
        let number = self.next_number;
        let directory = self.directory_mut(parent)?;
        if directory.current.contains_key(&name) {
            return Err(libc::EEXIST);
        }
        directory.record(Change::new(operation, path, kind), EntryChange::Create { name, number });
        self.inodes.insert(number, inode);
        self.next_number += 1;
        Ok(number)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, operation: (u64, Operation)) -> Outcome<()> {
        let ((parent, from_name), (to_parent, to_name)) = (self.find_parent(from)?, self.find_parent(to)?);
        if parent != to_parent {
            return Err(libc::EXDEV);
        }
        let number = *self.directory(parent)?.current.get(&from_name).ok_or(libc::ENOENT)?;
        if from_name == to_name {
            return Ok(());
        }
        self.check_replaceable(parent, &to_name, number)?;
        let change = Change::new(operation, from, ChangeKind::Rename { to: to.to_owned() });
        self.directory_mut(parent)?.record(change, EntryChange::Rename { to: to_name, number });
        Ok(())
    }

    fn check_replaceable(&self, parent: Number, name: &OsStr, by: Number) -> Outcome<()> {
        let Some(target) = self.directory(parent)?.current.get(name) else { return Ok(()) };
        match (&self.inodes[target], &self.inodes[&by]) {
            (Inode::File(_), Inode::File(_)) => Ok(()),
            (Inode::Directory(_), Inode::File(_)) => Err(libc::EISDIR),
            (Inode::File(_), Inode::Directory(_)) => Err(libc::ENOTDIR),
            (Inode::Directory(old), Inode::Directory(_)) if old.current.is_empty() => Ok(()),
            (Inode::Directory(_), Inode::Directory(_)) => Err(libc::ENOTEMPTY),
        }
    }

    pub(super) fn remove(&mut self, path: &Path, operation: (u64, Operation)) -> Outcome<()> {
        let number = self.find_file(path)?;
        let (parent, name) = self.find_parent(path)?;
        let change = Change::new(operation, path, ChangeKind::Remove);
        self.directory_mut(parent)?.record(change, EntryChange::Remove { name, number });
        Ok(())
    }

    pub(super) fn sync_directory(&mut self, path: &Path) -> Outcome<()> {
        let number = self.find(path)?;
        let directory = self.directory_mut(number)?;
        directory.settle(|_| Fate::Kept);
        Ok(())
    }

    /// Some entries reached the disk, the others never will, and what the process sees does not tell.
    pub(super) fn fail_to_sync_directory(&mut self, path: &Path, random: &mut Random) {
        let Ok(number) = self.find(path) else { return };
        if let Ok(directory) = self.directory_mut(number) {
            directory.settle(|change| random.fate(change));
        }
    }

    // ---- crashing ------------------------------------------------------------------------------------------------

    /// The disk after a power loss; `decide` is asked about each change that was not synced.
    pub(super) fn crash(&self, decide: &mut dyn FnMut(&Change) -> Fate) -> Disk {
        let mut image = Disk { inodes: BTreeMap::new(), next_number: self.next_number };
        self.crash_inode(ROOT, decide, &mut image);
        image
    }

    fn crash_inode(&self, number: Number, decide: &mut dyn FnMut(&Change) -> Fate, image: &mut Disk) {
        let survivor = match &self.inodes[&number] {
            Inode::Directory(directory) => {
                let mut directory = directory.clone();
                directory.settle(&mut *decide);
                for child in directory.durable.values() {
                    self.crash_inode(*child, decide, image);
                }
                Inode::Directory(Directory { current: directory.durable.clone(), ..directory })
            }
            Inode::File(file) => {
                let mut file = file.clone();
                file.settle_with_growth(decide);
                Inode::File(FileNode { current: file.durable.clone(), ..file })
            }
        };
        image.inodes.insert(number, survivor);
    }

    /// Everything that a reader can see.
    pub(super) fn hash_current(&self, hasher: &mut impl Hasher) {
        self.hash_inode(ROOT, hasher);
    }

    fn hash_inode(&self, number: Number, hasher: &mut impl Hasher) {
        match &self.inodes[&number] {
            Inode::File(file) => file.current.hash(hasher),
            Inode::Directory(directory) => {
                directory.current.len().hash(hasher);
                for (name, child) in &directory.current {
                    name.hash(hasher);
                    self.hash_inode(*child, hasher);
                }
            }
        }
    }
}

impl Directory {
    fn record(&mut self, change: Change, entry: EntryChange) {
        entry.apply(&mut self.current);
        self.pending.push((change, entry));
    }

    fn settle(&mut self, mut decide: impl FnMut(&Change) -> Fate) {
        for (change, entry) in self.pending.drain(..) {
            // An entry is never torn.
            if decide(&change) != Fate::Lost {
                entry.apply(&mut self.durable);
            }
        }
    }
}

impl EntryChange {
    /// Changes before this one may have been lost, so each stands on its own: an inode never gets two names.
    fn apply(&self, entries: &mut BTreeMap<OsString, Number>) {
        match self {
            EntryChange::Create { name, number } => {
                entries.insert(name.clone(), *number);
            }
            EntryChange::Rename { to, number } => {
                entries.retain(|_, other| other != number);
                entries.insert(to.clone(), *number);
            }
            EntryChange::Remove { name, number } => {
                if entries.get(name) == Some(number) {
                    entries.remove(name);
                }
            }
        }
    }
}

impl FileNode {
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64, path: &Path, operation: (u64, Operation)) {
        let kind = ChangeKind::Write { offset, length: bytes.len() as u64 };
        self.record(Change::new(operation, path, kind), ContentChange::Write { offset, bytes: bytes.into() });
    }

    pub(super) fn set_length(&mut self, length: u64, path: &Path, operation: (u64, Operation)) {
        let kind = ChangeKind::SetLength { length };
        self.record(Change::new(operation, path, kind), ContentChange::SetLength(length));
    }

    fn record(&mut self, change: Change, content: ContentChange) {
        content.apply(Fate::Kept, &mut self.current);
        self.pending.push((change, content));
    }

    pub(super) fn sync(&mut self) {
        self.settle(|_| Fate::Kept);
    }

    /// Some pages reached the disk, the others never will: a later sync finds nothing left to write.
    pub(super) fn fail_to_sync(&mut self, random: &mut Random) {
        self.settle(|change| random.fate(change));
    }

    fn settle(&mut self, mut decide: impl FnMut(&Change) -> Fate) {
        for (change, content) in self.pending.drain(..) {
            content.apply(decide(&change), &mut self.durable);
        }
    }

    /// The length may reach the disk without the bytes, up to where any lost write ended, or to the end of its block.
    fn settle_with_growth(&mut self, decide: &mut dyn FnMut(&Change) -> Fate) {
        let Some((last, _)) = self.pending.last() else { return };
        let last = last.clone();
        let farthest = self.pending.iter().map(|(_, content)| content.end()).max().unwrap_or(0);
        self.settle(&mut *decide);
        for length in [farthest, farthest.next_multiple_of(PAGE_BYTES)] {
            let growth = Change { kind: ChangeKind::Growth { length }, ..last.clone() };
            if length > self.durable.length() && decide(&growth) != Fate::Lost {
                self.durable.set_length(length);
            }
        }
    }

    /// Changes the medium itself, behind everyone's back.
    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        self.current.flip(offset, mask);
        self.durable.flip(offset, mask);
    }
}

impl ContentChange {
    fn end(&self) -> u64 {
        match self {
            ContentChange::Write { offset, bytes } => offset + bytes.len() as u64,
            ContentChange::SetLength(length) => *length,
        }
    }

    fn apply(&self, fate: Fate, content: &mut Content) {
        match (self, fate) {
            (_, Fate::Lost) => {}
            (ContentChange::SetLength(length), _) => content.set_length(*length),
            (ContentChange::Write { offset, bytes }, Fate::Kept) => content.write(bytes, *offset),
            (ContentChange::Write { offset, bytes }, Fate::Torn { unit_bytes, seed }) => {
                write_torn(content, bytes, *offset, unit_bytes, &mut Random::new(seed));
            }
        }
    }
}

/// Writes a random choice of the units, which lie at multiples of their size in the file.
fn write_torn(content: &mut Content, bytes: &[u8], offset: u64, unit_bytes: u64, random: &mut Random) {
    let unit_bytes = unit_bytes.max(1);
    let mut done = 0;
    while done < bytes.len() {
        let position = offset + done as u64;
        let unit = ((unit_bytes - position % unit_bytes) as usize).min(bytes.len() - done);
        if random.below(2) == 0 {
            content.write(&bytes[done..done + unit], position);
        }
        done += unit;
    }
}

/// An absolute path without `.` and `..`; relative paths start at the root.
pub(super) fn normalize(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(part) => normal.push(part),
            Component::ParentDir => {
                normal.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    normal
}
