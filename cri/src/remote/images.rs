//! Images.

use async_trait::async_trait;

use super::Remote;
use super::call::{Call, gone_is_done, rpc};
use crate::error::CriError;
use crate::proto as v1;
use crate::runtime::Images;

fn spec(image: &str) -> Option<v1::ImageSpec> {
    Some(v1::ImageSpec { image: image.to_owned(), ..v1::ImageSpec::default() })
}

#[async_trait]
impl Images for Remote {
    async fn list_images(&self) -> Result<Vec<v1::Image>, CriError> {
        let message = v1::ListImagesRequest { filter: None };
        rpc!(self, images.list_images, self.ordinary("ListImages", ""), message).map(|it| it.images)
    }

    async fn image_status(&self, image: &str) -> Result<Option<v1::Image>, CriError> {
        let message = v1::ImageStatusRequest { image: spec(image), verbose: false };
        rpc!(self, images.image_status, self.ordinary("ImageStatus", image), message).map(|it| it.image)
    }

    async fn pull_image(
        &self,
        image: v1::ImageSpec,
        auth: Option<v1::AuthConfig>,
        sandbox_config: Option<v1::PodSandboxConfig>,
    ) -> Result<String, CriError> {
        let name = image.image.clone();
        let call = Call { name: "PullImage", object: &name, deadline: None };
        let message = v1::PullImageRequest { image: Some(image), auth, sandbox_config };
        rpc!(self, images.pull_image, call, message).map(|it| it.image_ref)
    }

    async fn remove_image(&self, image: &str) -> Result<(), CriError> {
        let message = v1::RemoveImageRequest { image: spec(image) };
        gone_is_done(rpc!(self, images.remove_image, self.ordinary("RemoveImage", image), message))
    }

    async fn image_fs_info(&self) -> Result<v1::ImageFsInfoResponse, CriError> {
        rpc!(self, images.image_fs_info, self.ordinary("ImageFsInfo", ""), v1::ImageFsInfoRequest {})
    }
}
