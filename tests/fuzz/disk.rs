//! A file system in memory, with no faults: a store opens on it in microseconds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use batpak::Error;
use batpak::error::Result;
use batpak::io::{Entry, File, Lock, LockMode, Storage, TailMap};

type Content = Arc<Mutex<Vec<u8>>>;

/// Directories are what files are in. Clones share the files.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    files: Arc<Mutex<BTreeMap<PathBuf, Content>>>,
}

#[derive(Debug)]
struct Opened {
    path: PathBuf,
    content: Content,
}

#[derive(Debug)]
struct NoLock;

impl Lock for NoLock {}

/// Larger files than this there are not: an offset from hostile bytes must not take memory.
const FILE_BYTES_MAX: u64 = 16 << 20;

fn refused(operation: &'static str, path: &Path, os_errno: i32) -> Error {
    Error::Io { operation, path: path.to_owned(), os_errno, message: String::from("refused") }
}

impl Disk {
    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Content>> {
        self.files.lock().unwrap()
    }

    pub fn put(&self, path: &Path, bytes: &[u8]) {
        self.files().insert(path.to_owned(), Arc::new(Mutex::new(bytes.to_vec())));
    }

    pub fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        self.files().iter().map(|(path, content)| (path.clone(), content.lock().unwrap().clone())).collect()
    }

    fn open(&self, path: &Path) -> Option<Arc<dyn File>> {
        let content = self.files().get(path)?.clone();
        Some(Arc::new(Opened { path: path.to_owned(), content }))
    }
}

impl Storage for Disk {
    fn create_directory(&self, _path: &Path) -> Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> Result<Option<Vec<Entry>>> {
        let files = self.files();
        let mut entries: Vec<Entry> = Vec::new();
        for (below, content) in
            files.iter().filter_map(|(file, content)| Some((file.strip_prefix(path).ok()?, content)))
        {
            let mut parts = below.components();
            let Some(name) = parts.next().map(|part| part.as_os_str().to_string_lossy().into_owned()) else { continue };
            let is_directory = parts.next().is_some();
            if entries.last().is_none_or(|last| last.name != name) {
                entries.push(Entry { name, length: content.lock().unwrap().len() as u64, is_directory });
            }
        }
        Ok(Some(entries))
    }

    fn open_read(&self, path: &Path) -> Result<Option<Arc<dyn File>>> {
        Ok(self.open(path))
    }

    fn open_write(&self, path: &Path) -> Result<Option<Arc<dyn File>>> {
        Ok(self.open(path))
    }

    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        self.put(path, &[]);
        self.open(path).ok_or_else(|| refused("creating", path, 5))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut files = self.files();
        let content = files.remove(from).ok_or_else(|| refused("renaming", from, 2))?;
        files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.files().remove(path);
        Ok(())
    }

    fn sync_directory(&self, _path: &Path) -> Result<()> {
        Ok(())
    }

    fn lock(&self, _path: &Path, _mode: LockMode, _create: bool) -> Result<Option<Box<dyn Lock>>> {
        Ok(Some(Box::new(NoLock)))
    }

    fn canonicalize(&self, path: &Path) -> Result<PathBuf> {
        Ok(path.to_owned())
    }
}

impl File for Opened {
    fn path(&self) -> &Path {
        &self.path
    }

    fn length(&self) -> Result<u64> {
        Ok(self.content.lock().unwrap().len() as u64)
    }

    fn set_length(&self, length: u64) -> Result<()> {
        if length > FILE_BYTES_MAX {
            return Err(refused("cutting", &self.path, 27));
        }
        self.content.lock().unwrap().resize(length as usize, 0);
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        if offset > i64::MAX as u64 {
            // As the system would.
            return Err(refused("reading", &self.path, 22));
        }
        let content = self.content.lock().unwrap();
        let rest = content.get(offset.min(content.len() as u64) as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let end = offset.checked_add(bytes.len() as u64).filter(|&end| end <= FILE_BYTES_MAX);
        let end = end.ok_or_else(|| refused("writing", &self.path, 27))? as usize;
        let mut content = self.content.lock().unwrap();
        let longer = content.len().max(end);
        content.resize(longer, 0);
        content[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        Ok(())
    }

    fn map_tail(&self, _length: u64) -> Result<Box<dyn TailMap>> {
        Err(refused("mapping", &self.path, 19))
    }
}
