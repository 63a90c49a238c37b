//! The API server: HTTPS front, authentication, authorization, admission, registry, watch cache.
