//! A runtime behind a CRI v1 socket.
//!
//! Guarantees: connecting is lazy and repeats by itself after the runtime went away; every call has a deadline except
//! those whose end is the caller's to choose (pulling, endless exec, events); errors leave here as [`CriError`], which
//! name the call and its object.

mod call; // one call: deadline and error translation
mod containers;
mod images;
mod sandboxes;
mod streams;

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::error::CriError;
use crate::proto::image_service_client::ImageServiceClient;
use crate::proto::runtime_service_client::RuntimeServiceClient;

/// How to talk to a runtime.
#[derive(Debug, Clone)]
pub struct RemoteConfig {
    /// `runtimeRequestTimeout`: the deadline of every ordinary call.
    pub request_timeout: Duration,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// The largest message to accept or send; a node full of containers exceeds gRPC's 4 MiB.
    pub max_message: usize,
}

impl Default for RemoteConfig {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(120),
            connect_timeout: Duration::from_secs(5),
            max_message: 32 << 20,
        }
    }
}

/// The client of a runtime's socket. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Remote {
    endpoint: String,
    config: RemoteConfig,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Remote {
    /// A client of the runtime at `endpoint` (`unix:///run/...` or a path). No connection is made before the first
    /// call; must be called within a tokio runtime.
    pub fn connect(endpoint: &str) -> Result<Self, CriError> {
        Self::with_config(endpoint, None, RemoteConfig::default())
    }

    /// As [`Remote::connect`], with images served at an endpoint of their own when `image_endpoint` is given.
    pub fn with_config(
        endpoint: &str,
        image_endpoint: Option<&str>,
        config: RemoteConfig,
    ) -> Result<Self, CriError> {
        let channel = channel(endpoint, &config)?;
        let image_channel = match image_endpoint {
            Some(other) if other != endpoint => self::channel(other, &config)?,
            Some(_) | None => channel.clone(),
        };
        let max = config.max_message;
        Ok(Self {
            endpoint: endpoint.to_owned(),
            runtime: RuntimeServiceClient::new(channel)
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
            images: ImageServiceClient::new(image_channel)
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
            config,
        })
    }

    /// The endpoint as configured.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

fn channel(endpoint: &str, config: &RemoteConfig) -> Result<Channel, CriError> {
    let uri = if endpoint.starts_with('/') { format!("unix://{endpoint}") } else { endpoint.to_owned() };
    if !uri.starts_with("unix://") {
        return Err(CriError::Unreachable {
            endpoint: endpoint.to_owned(),
            message: "only unix sockets are supported (unix:///path)".to_owned(),
        });
    }
    let endpoint = Endpoint::try_from(uri)
        .map_err(|err| CriError::Unreachable { endpoint: endpoint.to_owned(), message: err.to_string() })?;
    Ok(endpoint.connect_timeout(config.connect_timeout).connect_lazy())
}
