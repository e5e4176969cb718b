//! What a node shows over HTTP, on one port: the dashboard, an API of JSON, metrics, and whether it is
//! well. Only looks: nothing here changes what the node does.
//!
//! A thread of its own looks once a second (`live`) and keeps the last 15 minutes (`recent`); all who
//! watch are sent the same `view` of that.

mod access;
mod live;
mod metrics;
mod nodes;
mod page;
mod picture;
mod recent;
mod routes;
mod tls;
mod view;
mod windows;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum_server::Handle;
use thiserror::Error;

pub(crate) use live::{Face, Live};

use self::access::Access;
use self::routes::{Shown, router};
use self::tls::Tls;
use crate::config::ServeConfig;

/// Time for requests in progress when the node ends.
const END_WITHIN: Duration = Duration::from_millis(500);

/// Why nothing is shown.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The port cannot be had.
    #[error("cannot listen at {address}: {reason}; choose another with [serve] listen, or --serve")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// A token, certificate or key cannot be used.
    #[error("[serve] {key}: {reason}")]
    Secret {
        /// Key of the configuration.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A thread or its runtime could not be started.
    #[error("cannot show anything: {0}")]
    Start(String),
}

/// A port that is listened at, and who may look.
pub(crate) struct Port {
    listener: TcpListener,
    address: SocketAddr,
    access: Access,
    tls: Option<Tls>,
    pictures: bool,
}

impl Port {
    /// Listens as configured. Connections wait until [`Port::show`].
    ///
    /// # Errors
    /// [`ServeError`].
    pub(crate) fn open(config: &ServeConfig) -> Result<Self, ServeError> {
        let failed = |error: std::io::Error| ServeError::Listen {
            address: config.listen.clone(),
            reason: error.to_string(),
        };
        let access = Access::new(config)?;
        let tls = Tls::of(config)?;
        let listener = TcpListener::bind(&config.listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            access,
            tls,
            pictures: config.pictures,
        })
    }

    /// Shows what is live, until the server is dropped.
    ///
    /// # Errors
    /// [`ServeError::Start`].
    pub(crate) fn show(self, live: Live) -> Result<Server, ServeError> {
        let start = |error: std::io::Error| ServeError::Start(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(start)?;
        let (address, live, handle) = (self.address, Arc::new(live), Handle::new());
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let task = {
            let (live, handle) = (Arc::clone(&live), handle.clone());
            move || {
                if let Err(error) = runtime.block_on(self.run(live, handle)) {
                    tracing::error!(%error, "the dashboard, the API and the metrics are gone");
                }
            }
        };
        let thread = std::thread::Builder::new().name("serve".to_owned());
        let thread = thread.spawn(task).map_err(start)?;
        tracing::info!("dashboard at {scheme}://{address}");
        Ok(Server {
            live,
            handle,
            thread: Some(thread),
        })
    }

    async fn run(self, live: Arc<Live>, handle: Handle<SocketAddr>) -> std::io::Result<()> {
        let (shown, looking) = Shown::begin(live, self.pictures);
        let app = router(shown, self.access).into_make_service();
        let served = async {
            match self.tls {
                None => {
                    let server = axum_server::from_tcp(self.listener)?.handle(handle);
                    server.serve(app).await
                }
                Some(tls) => {
                    let server = axum_server::from_tcp_rustls(self.listener, tls.config())?;
                    server.handle(handle).serve(app).await
                }
            }
        };
        tokio::select! {
            served = served => served,
            () = looking => Ok(()),
        }
    }
}

/// What shows a node. Dropped, it ends.
pub(crate) struct Server {
    live: Arc<Live>,
    handle: Handle<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// From now on, these are the streams of the node.
    pub(crate) fn set_streams(&self, streams: Vec<Face>) {
        self.live.set_streams(streams);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Those who watch hold a connection for ever.
        self.handle.graceful_shutdown(Some(END_WITHIN));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the dashboard panicked");
        }
    }
}
