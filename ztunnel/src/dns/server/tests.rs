//! The proxy as a pod sees it, over real sockets on loopback, with a name server that we play.

use super::*;
use hickory_proto::{
    op::{OpCode, Query},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use mesh::fixture;
use std::sync::Mutex;
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::watch};

const SHOP: &str = "
pod client ns=shop sa=client ip=127.0.0.1
service web ns=shop vip=10.1.0.1,10.1.0.2 80->8080
";

struct Shop {
    view: Arc<View>,
    client: Client,
}

/// The pod, once the mesh knows it.
type Client = watch::Sender<Option<Arc<Workload>>>;

impl Pod for Shop {
    fn view(&self) -> (Arc<View>, Option<Arc<Workload>>) {
        (self.view.clone(), self.client.borrow().clone())
    }

    async fn known(&self) {
        let mut client = self.client.subscribe();
        drop(client.wait_for(Option::is_some).await);
    }
}

struct Loopback;

impl Reach for Loopback {
    fn datagrams_to(&self, _server: SocketAddr) -> io::Result<UdpSocket> {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    }

    async fn connect(&self, server: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(server).await
    }
}

/// How the name server that we play behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Upstream {
    Answers,
    LiesFirst,
    Truncates,
    Huge,
    ServFail,
    Silent,
}

struct World {
    udp: SocketAddr,
    tcp: SocketAddr,
    asked: Arc<Mutex<Vec<Message>>>,
    view: Arc<View>,
    client: Client,
    _tasks: Vec<task::Task<()>>,
}

async fn world(upstreams: &[Upstream], known: bool) -> World {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (mut servers, mut tasks) = (Vec::new(), Vec::new());
    for behaviour in upstreams {
        let (address, upstream) = upstream(*behaviour, asked.clone()).await;
        servers.push(address);
        tasks.extend(upstream);
    }
    let view = Arc::new(fixture::view(SHOP));
    let client = Client::new(view.workloads().find(|_| known).cloned());
    let pod = Arc::new(Shop { view: view.clone(), client: client.clone() });
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (udp, tcp) = (socket.local_addr().unwrap(), listener.local_addr().unwrap());
    let zone = Zone { domain: "cluster.local".into(), ipv6: true, preferred_namespace: None };
    let proxy = Proxy::new(zone, &servers, DnsMetrics::default());
    tasks.push(task::spawn("proxy", async move {
        let listener = Listener::new(listener.into_std().unwrap()).unwrap();
        proxy.serve(vec![socket], vec![listener], pod, Arc::new(Loopback)).await;
    }));
    World { udp, tcp, asked, view, client, _tasks: tasks }
}

async fn upstream(behaviour: Upstream, asked: Arc<Mutex<Vec<Message>>>) -> (SocketAddr, Vec<task::Task<()>>) {
    // Both on one port: the first that is free for both.
    let (socket, listener) = loop {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()).await {
            break (socket, listener);
        }
    };
    let address = socket.local_addr().unwrap();
    let copy = asked.clone();
    let udp = task::spawn("upstream udp", async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let query = Message::from_vec(&buffer[..length]).unwrap();
            copy.lock().unwrap().push(query.clone());
            if behaviour == Upstream::LiesFirst {
                let mut lie = reply(&query, behaviour, Transport::Udp);
                lie.metadata.id = lie.metadata.id.wrapping_add(1);
                socket.send_to(&lie.to_vec().unwrap(), from).await.unwrap();
            }
            if behaviour != Upstream::Silent {
                socket.send_to(&reply(&query, behaviour, Transport::Udp).to_vec().unwrap(), from).await.unwrap();
            }
        }
    });
    let tcp = task::spawn("upstream tcp", async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let query = Message::from_vec(&read_framed(&mut stream).await.unwrap()).unwrap();
            asked.lock().unwrap().push(query.clone());
            write_framed(&mut stream, &reply(&query, behaviour, Transport::Tcp).to_vec().unwrap()).await.unwrap();
        }
    });
    (address, vec![udp, tcp])
}

fn reply(query: &Message, behaviour: Upstream, over: Transport) -> Message {
    let mut reply = query.clone().into_response();
    let name = query.queries[0].name.clone();
    let count = if behaviour == Upstream::Huge { 200 } else { 1 };
    match behaviour {
        Upstream::ServFail => reply.metadata.response_code = ResponseCode::ServFail,
        Upstream::Truncates if over == Transport::Udp => reply.metadata.truncation = true,
        _ => {
            reply.add_answers(
                (0..count).map(|n| Record::from_rdata(name.clone(), 60, RData::A(A([9, 9, 9, n].into())))),
            );
        }
    }
    reply
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut query = Message::query();
    query.metadata.id = 4242;
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    query
}

async fn over_udp(world: &World, bytes: &[u8]) -> Option<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(bytes, world.udp).await.unwrap();
    let mut buffer = [0; 65_535];
    let received = timeout(Duration::from_secs(8), socket.recv(&mut buffer)).await.ok()?;
    Some(Message::from_vec(&buffer[..received.unwrap()]).unwrap())
}

async fn over_tcp(world: &World, bytes: &[u8]) -> Message {
    let mut stream = TcpStream::connect(world.tcp).await.unwrap();
    write_framed(&mut stream, bytes).await.unwrap();
    Message::from_vec(&read_framed(&mut stream).await.unwrap()).unwrap()
}

fn show(message: &Message) -> String {
    let mut records: Vec<String> = message.answers.iter().map(|record| record.data.to_string()).collect();
    records.sort();
    let truncated = if message.metadata.truncation { " truncated" } else { "" };
    format!("{:?}{truncated} {}", message.metadata.response_code, records.join(" "))
}

/// Asks over UDP and compares.
async fn check(world: &World, name: &str, kind: RecordType, expected: &str) {
    let answer = over_udp(world, &question(name, kind).to_vec().unwrap()).await.expect("an answer");
    assert_eq!(answer.metadata.id, 4242);
    assert_eq!(show(&answer).trim(), expected, "{name}");
}

#[tokio::test]
async fn names_of_the_mesh_are_answered_without_asking_others() {
    let world = world(&[Upstream::Answers], true).await;
    check(&world, "web.shop.svc.cluster.local.", RecordType::A, "NoError 10.1.0.1 10.1.0.2").await;
    check(&world, "web.shop.svc.cluster.local.", RecordType::AAAA, "NoError").await;
    let doubled = "web.shop.svc.cluster.local.shop.svc.cluster.local.";
    check(&world, doubled, RecordType::A, "NoError 10.1.0.1 10.1.0.2 web.shop.svc.cluster.local.").await;
    let answer = over_tcp(&world, &question("web.", RecordType::A).to_vec().unwrap()).await;
    assert_eq!(show(&answer), "NoError 10.1.0.1 10.1.0.2");
    assert!(answer.metadata.authoritative && answer.answers.iter().all(|record| record.ttl == 30));
    assert!(world.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn other_names_are_asked_of_others_with_another_id() {
    let world = world(&[Upstream::Answers], true).await;
    check(&world, "example.com.", RecordType::A, "NoError 9.9.9.0").await;
    check(&world, "example.com.", RecordType::TXT, "NoError 9.9.9.0").await;
    let answer = over_tcp(&world, &question("example.com.", RecordType::A).to_vec().unwrap()).await;
    assert_eq!((show(&answer).as_str(), answer.metadata.id), ("NoError 9.9.9.0", 4242));
    let asked = world.asked.lock().unwrap();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().any(|query| query.metadata.id != 4242));
}

#[tokio::test]
async fn an_answer_with_a_wrong_id_is_not_believed() {
    let world = world(&[Upstream::LiesFirst], true).await;
    check(&world, "example.com.", RecordType::A, "NoError 9.9.9.0").await;
}

#[tokio::test]
async fn a_server_that_fails_is_passed_over() {
    let world = world(&[Upstream::ServFail, Upstream::Answers], true).await;
    check(&world, "example.com.", RecordType::A, "NoError 9.9.9.0").await;
}

#[tokio::test]
async fn what_does_not_fit_a_datagram_is_said_to_be_truncated() {
    for behaviour in [Upstream::Truncates, Upstream::Huge] {
        let world = world(&[behaviour], true).await;
        check(&world, "example.com.", RecordType::A, "NoError truncated").await;
        let answer = over_tcp(&world, &question("example.com.", RecordType::A).to_vec().unwrap()).await;
        assert!(!answer.metadata.truncation && !answer.answers.is_empty(), "{behaviour:?}");
    }
}

#[tokio::test]
async fn when_nobody_answers_the_pod_is_told_within_the_deadline() {
    let world = world(&[Upstream::Silent], true).await;
    let began = Instant::now();
    check(&world, "example.com.", RecordType::A, "ServFail").await;
    assert!(began.elapsed() < limits::DEADLINE + Duration::from_secs(2));
}

#[tokio::test]
async fn without_servers_the_clusters_other_names_do_not_exist() {
    let world = world(&[], true).await;
    check(&world, "nothing.shop.svc.cluster.local.", RecordType::A, "NXDomain").await;
    check(&world, "example.com.", RecordType::A, "ServFail").await;
}

#[tokio::test]
async fn a_client_that_nobody_knows_gets_no_answer_to_use() {
    let world = world(&[Upstream::Answers], false).await;
    let began = Instant::now();
    tokio::join!(
        check(&world, "web.shop.svc.cluster.local.", RecordType::A, "ServFail"),
        check(&world, "example.com.", RecordType::TXT, "ServFail"),
    );
    assert!(began.elapsed() < limits::DEADLINE, "the resolver has given up by now");
    assert!(world.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_question_waits_until_the_mesh_knows_the_pod() {
    let world = world(&[Upstream::Answers], false).await;
    let tcp = async {
        let answer = over_tcp(&world, &question("web.", RecordType::A).to_vec().unwrap()).await;
        assert_eq!(show(&answer), "NoError 10.1.0.1 10.1.0.2");
    };
    let becomes_known = async {
        while world.client.receiver_count() < 3 {
            tokio::task::yield_now().await;
        }
        world.client.send_replace(world.view.workloads().next().cloned());
    };
    tokio::join!(
        check(&world, "web.shop.svc.cluster.local.", RecordType::A, "NoError 10.1.0.1 10.1.0.2"),
        check(&world, "example.com.", RecordType::A, "NoError 9.9.9.0"),
        tcp,
        becomes_known,
    );
    assert_eq!(world.asked.lock().unwrap().len(), 1, "names of the mesh are not asked of others");
}

#[tokio::test]
async fn what_is_no_question_is_ignored_or_refused() {
    let world = world(&[Upstream::Answers], true).await;
    let mut update = question("example.com.", RecordType::A);
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(show(&over_udp(&world, &update.to_vec().unwrap()).await.unwrap()).trim(), "NotImp");
    let mut two = question("example.com.", RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(show(&over_udp(&world, &two.to_vec().unwrap()).await.unwrap()).trim(), "FormErr");
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let response = question("example.com.", RecordType::A).into_response().to_vec().unwrap();
    for junk in [&b""[..], b"junk", &[0xff; 600], &response] {
        socket.send_to(junk, world.udp).await.unwrap();
    }
    // Still there, and none of that was answered.
    check(&world, "web.", RecordType::A, "NoError 10.1.0.1 10.1.0.2").await;
    assert!(socket.try_recv(&mut [0; 10]).is_err());
    let mut half = TcpStream::connect(world.tcp).await.unwrap();
    half.write_all(&[0xff, 0xff, 1, 2, 3]).await.unwrap();
    check(&world, "web.", RecordType::A, "NoError 10.1.0.1 10.1.0.2").await;
}

#[tokio::test]
async fn a_name_of_an_endpoint_is_asked_for_once() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (server, _tasks) = upstream(Upstream::Truncates, asked.clone()).await;
    let resolver = crate::dns::Resolver::new(&[server], true);
    for _ in 0..3 {
        let addresses = resolver.resolve(&Loopback, "DB.example.com").await.unwrap();
        assert_eq!(addresses, ["9.9.9.0".parse::<IpAddr>().unwrap()]);
    }
    // A and AAAA, each over UDP and then over TCP.
    assert_eq!(asked.lock().unwrap().len(), 4);
    let nobody = crate::dns::Resolver::new(&[], true);
    assert!(nobody.resolve(&Loopback, "db.example.com").await.is_err());
    assert!(resolver.resolve(&Loopback, "not a name..").await.is_err());
}
