//! A broker for the tests of this crate.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use mqtt_broker::net::{Plain, Server};
use mqtt_broker::{Broker, Limits, Policy};

/// The project's own broker in a thread; it stops when this goes.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    _stop: UnixStream,
    _thread: JoinHandle<()>,
}

pub(crate) fn broker() -> Running {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a listener");
    let address = listener.local_addr().expect("its address");
    let (stop, stopped) = UnixStream::pair().expect("a pair");
    let thread = std::thread::spawn(move || {
        let broker = Broker::new(Limits::PLAIN, Policy::Open, 1);
        let mut server = Server::new(broker, Plain).expect("a server");
        server.listen_tcp(listener).expect("listening");
        server.stop_on(OwnedFd::from(stopped)).expect("a way to stop");
        server.run().expect("it runs");
    });
    Running { address, _stop: stop, _thread: thread }
}
