use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn options() -> Options {
    Options {
        mark: None,
        share_ports: true,
        ipv6: true,
        keepalive: Some(Keepalive { time: Duration::from_secs(180), interval: Duration::from_secs(180), retries: 9 }),
        user_timeout: true,
    }
}

#[tokio::test]
async fn two_processes_may_listen_on_one_port() {
    let sockets = Sockets::new(None, options());
    let one = sockets.listen_everywhere(0).expect("listening");
    let port = one[0].local_addr().expect("bound").port();
    sockets.listen((Ipv4Addr::UNSPECIFIED, port).into()).expect("listening a second time");
}

#[tokio::test]
async fn a_connection_that_was_not_redirected_wanted_to_go_where_it_is() {
    let sockets = Sockets::new(None, options());
    for (address, source) in [("127.0.0.1:0", "127.0.0.3"), ("[::1]:0", "::1")] {
        let Ok(listener) = sockets.listen(address.parse().expect("an address")) else { continue };
        let target = listener.local_addr().expect("bound");
        let (dialled, accepted) =
            tokio::join!(sockets.connect_from(source.parse().expect("an address"), target), listener.accept());
        let (stream, peer) = accepted.expect("accepted");
        let mut stream = TcpStream::from_std(stream).expect("registered");
        assert_eq!(peer.ip().to_string(), source);
        assert_eq!(original_destination(&stream).expect("known"), target);
        stream.write_all(b"x").await.expect("written");
        reset(stream);
        let read = dialled.expect("connected").read_to_end(&mut Vec::new()).await;
        assert_eq!(read.expect_err("it ends").kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_connection_has_what_was_asked_for_whichever_end_it_is() {
    let sockets = Sockets::new(None, options());
    let listener = sockets.listen("127.0.0.1:0".parse().expect("an address")).expect("listening");
    let target = listener.local_addr().expect("bound");
    let (dialled, accepted) = tokio::join!(sockets.connect(target), listener.accept());
    let (dialled, accepted) = (dialled.expect("connected"), accepted.expect("accepted").0);
    for (which, socket) in [("dialled", SockRef::from(&dialled)), ("accepted", SockRef::from(&accepted))] {
        assert!(socket.tcp_nodelay().expect("known") && socket.keepalive().expect("known"), "{which}");
        let times = (socket.tcp_keepalive_time(), socket.tcp_keepalive_interval());
        let wanted = Duration::from_secs(180);
        assert_eq!((times.0.expect("known"), times.1.expect("known")), (wanted, wanted), "{which}");
        assert_eq!(socket.tcp_keepalive_retries().expect("known"), 9, "{which}");
        assert_eq!(socket.tcp_user_timeout().expect("known"), Some(wanted * 10), "{which}");
        assert!(socket.nonblocking().expect("known"), "{which}");
    }
}
