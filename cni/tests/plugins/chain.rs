use crate::world::{Namespace, World, address, footprint};
use coracle_cni::conflist::{ConfList, PodNetwork};
use coracle_cni::invoke::{Attachment, Runtime};
use coracle_cni::spec::AttachmentId;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

fn runtime(world: &World) -> Runtime {
    Runtime {
        bin_dirs: world.path.split(':').map(PathBuf::from).collect(),
        cache_dir: world.dir.path().join("results"),
        limit: Duration::from_secs(30),
    }
}

fn pod_network(world: &World) -> ConfList {
    let network = PodNetwork {
        name: "pods".into(),
        bridge: "br0".into(),
        pod_cidrs: vec!["10.77.0.0/24".parse().unwrap(), "fd00:77::/64".parse().unwrap()],
        mtu: None,
        masquerade: true,
        lease_dir: Some(world.lease_dir()),
    };
    let dir = world.dir.path().join("net.d");
    network.install(&dir).unwrap();
    ConfList::find(&dir, &runtime(world).bin_dirs).unwrap()
}

fn attachment(id: &str, container: &Namespace) -> Attachment {
    let mappings = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
    Attachment {
        container_id: id.into(),
        netns: Some(container.path().into()),
        ifname: "eth0".into(),
        args: vec![("IgnoreUnknown".into(), "1".into()), ("K8S_POD_NAME".into(), "web".into())],
        capabilities: mappings.as_object().unwrap().clone(),
    }
}

#[test]
fn a_pod_network_from_its_file_to_the_last_trace() {
    let world = World::new();
    let (runtime, list, container) = (runtime(&world), pod_network(&world), Namespace::new());
    let pod = attachment("c", &container);
    world.host.enter(|| {
        runtime.status(&list).unwrap();
        let result = runtime.add(&list, &pod).unwrap();
        assert_eq!(result.ips.len(), 2);
        runtime.check(&list, &pod).unwrap();
    });
    assert!(world.host.run("nft list map inet coracle_cni any6").contains("tcp . 8080"));
    let record: Value =
        serde_json::from_slice(&std::fs::read(world.dir.path().join("results/pods-c-eth0")).unwrap())
            .unwrap();
    assert_eq!((&record["kind"], &record["networkName"]), (&json!("cniCacheV1"), &json!("pods")));
    assert_eq!(address(&record["result"]), "10.77.0.2");
    world.host.enter(|| {
        runtime.del(&list, &pod).unwrap();
        runtime.del(&list, &pod).unwrap();
        assert!(runtime.check(&list, &pod).is_err());
    });
    assert_eq!(footprint(&world, "pods"), "");
}

#[test]
fn gc_after_a_runtime_lost_its_memory() {
    let world = World::new();
    let (runtime, list) = (runtime(&world), pod_network(&world));
    let (one, two) = (Namespace::new(), Namespace::new());
    let mut second = attachment("two", &two);
    second.capabilities.clear();
    world.host.enter(|| {
        runtime.add(&list, &attachment("one", &one)).unwrap();
        runtime.add(&list, &second).unwrap();
        std::fs::remove_file(runtime.cache_dir.join("pods-one-eth0")).unwrap();
        runtime.gc(&list, &[AttachmentId { container_id: "two".into(), ifname: "eth0".into() }]).unwrap();
    });
    assert_eq!(world.leases("pods"), ["10.77.0.3", "fd00:77::3"]);
    assert!(!world.host.run("nft list map inet coracle_cni any4").contains("8080"));
    world.host.enter(|| runtime.check(&list, &second).unwrap());
}

#[test]
fn a_failing_plugin_undoes_those_before_it() {
    let world = World::new();
    let (runtime, list) = (runtime(&world), pod_network(&world));
    let (one, two) = (Namespace::new(), Namespace::new());
    world.host.enter(|| runtime.add(&list, &attachment("one", &one)).unwrap());
    let before = footprint(&world, "pods");
    let err = world.host.enter(|| runtime.add(&list, &attachment("two", &two)).unwrap_err());
    assert!(err.to_string().contains("leads to another container already"), "{err}");
    assert_eq!(footprint(&world, "pods"), before);
    assert!(!two.run("ip -br link").contains("eth0"));
}
