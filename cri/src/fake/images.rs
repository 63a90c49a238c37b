//! Images.

use async_trait::async_trait;

use super::{FakeRuntime, Refusal};
use crate::error::CriError;
use crate::proto as v1;
use crate::runtime::Images;

/// The size of an image that was pulled.
const SIZE: u64 = 10 << 20;

#[async_trait]
impl Images for FakeRuntime {
    async fn list_images(&self) -> Result<Vec<v1::Image>, CriError> {
        self.call("ListImages", "", |state| Ok(state.images.values().cloned().collect())).await
    }

    async fn image_status(&self, image: &str) -> Result<Option<v1::Image>, CriError> {
        self.call("ImageStatus", image, |state| Ok(state.image(image).cloned())).await
    }

    async fn pull_image(
        &self,
        image: v1::ImageSpec,
        _auth: Option<v1::AuthConfig>,
        _sandbox_config: Option<v1::PodSandboxConfig>,
    ) -> Result<String, CriError> {
        if !self.shared.config.pull_time.is_zero() {
            tokio::time::sleep(self.shared.config.pull_time).await;
        }
        let anything = self.shared.config.pull_anything;
        let name = image.image;
        self.call("PullImage", &name, |state| {
            if !anything && !state.published.contains(&name) {
                let message = format!(
                    "failed to pull and unpack image {name:?}: failed to resolve reference {name:?}: {name}: not found"
                );
                return Err(Refusal(tonic::Code::NotFound, message));
            }
            state.add_image(&name, SIZE);
            Ok(state.image(&name).map(|it| it.id.clone()).unwrap_or_default())
        })
        .await
    }

    async fn remove_image(&self, image: &str) -> Result<(), CriError> {
        self.call("RemoveImage", image, |state| {
            let id = state.image(image).map(|it| it.id.clone());
            state.images.retain(|_, it| Some(&it.id) != id.as_ref());
            Ok(())
        })
        .await
    }

    async fn image_fs_info(&self) -> Result<v1::ImageFsInfoResponse, CriError> {
        self.call("ImageFsInfo", "", |state| {
            let used = state.images.values().map(|it| it.size).sum();
            let usage = v1::FilesystemUsage {
                timestamp: state.now(),
                fs_id: Some(v1::FilesystemIdentifier { mountpoint: "/".to_owned() }),
                used_bytes: Some(v1::UInt64Value { value: used }),
                inodes_used: Some(v1::UInt64Value { value: 0 }),
            };
            Ok(v1::ImageFsInfoResponse { image_filesystems: vec![usage], container_filesystems: Vec::new() })
        })
        .await
    }
}
