//! An OCI image with one layer, written as an image-layout archive that every container tool imports.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use oci_spec::image::{
    Arch, ConfigBuilder, DescriptorBuilder, ImageConfigurationBuilder, ImageIndexBuilder,
    ImageManifestBuilder, MediaType, Os, RootFsBuilder, Sha256Digest,
};

/// What an image runs by default.
pub struct Run<'a> {
    /// The program and its fixed arguments.
    pub entrypoint: &'a [&'a str],
    /// Arguments that a pod may replace.
    pub command: &'a [&'a str],
    /// `NAME=value`.
    pub env: &'a [&'a str],
    /// Ports it listens on: `8080/tcp`.
    pub ports: &'a [&'a str],
}

/// A file system layer under construction: files in a tar stream, all owned by root, with fixed times so that equal
/// input gives an equal image.
pub struct Layer {
    tar: tar::Builder<Vec<u8>>,
}

impl Layer {
    /// An empty layer.
    pub fn new() -> Self {
        Self { tar: tar::Builder::new(Vec::new()) }
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: &str, mode: u32) -> Result<()> {
        let mut header = header(tar::EntryType::Directory, mode, 0);
        self.tar
            .append_data(&mut header, path, std::io::empty())
            .with_context(|| format!("add folder {path}"))
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let mut header = header(tar::EntryType::Regular, mode, content.len() as u64);
        self.tar.append_data(&mut header, path, content).with_context(|| format!("add file {path}"))
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        self.tar.append_link(&mut header, path, target).with_context(|| format!("add link {path}"))
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Writes the image `name` with one layer as an archive at `path`.
pub fn write_image(path: &Path, name: &str, layer: Layer, run: &Run<'_>) -> Result<()> {
    let plain = layer.tar.into_inner().context("finish the layer")?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&plain).context("compress the layer")?;
    let packed = gzip.finish().context("compress the layer")?;

    let config = config_json(&plain, run)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(MediaType::ImageConfig, &config).build()?)
        .layers([descriptor(MediaType::ImageLayerGzip, &packed).build()?])
        .build()?
        .to_string()?
        .into_bytes();
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let names = HashMap::from([
        ("io.containerd.image.name".to_owned(), name.to_owned()),
        ("org.opencontainers.image.ref.name".to_owned(), tag.to_owned()),
    ]);
    let index = ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageIndex)
        .manifests([descriptor(MediaType::ImageManifest, &manifest).annotations(names).build()?])
        .build()?;
    // Through a Value: its maps are sorted, so equal input gives equal bytes.
    let index = serde_json::to_value(index).context("encode the index")?.to_string();

    let mut archive = Layer::new();
    archive.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive.file("index.json", 0o644, index.as_bytes())?;
    for blob in [&config, &packed, &manifest] {
        archive.file(&format!("blobs/sha256/{}", sha256(blob)), 0o644, blob)?;
    }
    let bytes = archive.tar.into_inner().context("finish the archive")?;
    // Into place in one step: whoever watches the folder never sees half an archive.
    let unfinished = path.with_extension("partial");
    std::fs::write(&unfinished, bytes).with_context(|| format!("write {}", unfinished.display()))?;
    std::fs::rename(&unfinished, path).with_context(|| format!("write {}", path.display()))
}

fn config_json(layer: &[u8], run: &Run<'_>) -> Result<Vec<u8>> {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let mut config = ConfigBuilder::default().env(owned(run.env)).entrypoint(owned(run.entrypoint));
    if !run.command.is_empty() {
        config = config.cmd(owned(run.command));
    }
    if !run.ports.is_empty() {
        config = config.exposed_ports(owned(run.ports));
    }
    let image = ImageConfigurationBuilder::default()
        .architecture(architecture())
        .os(Os::Linux)
        .config(config.build()?)
        .rootfs(
            RootFsBuilder::default().typ("layers").diff_ids([format!("sha256:{}", sha256(layer))]).build()?,
        )
        .build()?;
    Ok(image.to_string()?.into_bytes())
}

fn architecture() -> Arch {
    if cfg!(target_arch = "aarch64") { Arch::ARM64 } else { Arch::Amd64 }
}

fn descriptor(kind: MediaType, content: &[u8]) -> DescriptorBuilder {
    let digest = Sha256Digest::from_str(&sha256(content)).expect("64 hexadecimal digits are a digest");
    DescriptorBuilder::default().media_type(kind).size(content.len() as u64).digest(digest)
}

fn sha256(content: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, content);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_input_gives_an_equal_archive_with_its_name_in_the_index() {
        let folder = tempfile::tempdir().unwrap();
        let run = Run { entrypoint: &["/a"], command: &[], env: &[], ports: &[] };
        let write = |file: &str| {
            let mut layer = Layer::new();
            layer.file("a", 0o755, b"x").unwrap();
            let path = folder.path().join(file);
            write_image(&path, "localhost/coracle/a:1", layer, &run).unwrap();
            std::fs::read(path).unwrap()
        };
        let one = write("one.tar");
        assert!(one == write("two.tar"), "the two archives differ");
        let mut archive = tar::Archive::new(one.as_slice());
        let names: Vec<String> =
            archive.entries().unwrap().map(|it| it.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names[..2], ["oci-layout", "index.json"]);
        assert_eq!(names.len(), 5);
        assert!(
            String::from_utf8_lossy(&one).contains(r#""io.containerd.image.name":"localhost/coracle/a:1""#)
        );
    }
}
