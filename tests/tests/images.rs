//! Images from a real registry, with and without credentials; what becomes of unused ones; logs that are rotated while
//! they are followed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coracle_tests::{Cluster, Kubectl, Options, eventually, eventually_within};

/// A user of the registry, and bcrypt's hash of the password.
const USER: (&str, &str) = ("imani", "sesame");
const HTPASSWD: &str = "imani:$2b$04$abcdefghijklmnopqrstuuinwY/tkBVrn3xrxQI/TgnMHhkvl85RW\n";

/// Debian's docker-registry on the loopback of a cluster's host. Its images go with the data folder.
struct Registry {
    address: String,
    process: Child,
}

impl Registry {
    /// On this port; with a password, or for anybody.
    fn start(cluster: &Cluster, port: u16, locked: bool) -> Self {
        let folder = cluster.data_dir().join(format!("registry-{port}"));
        std::fs::create_dir_all(&folder).unwrap();
        let (address, shown) = (format!("localhost:{port}"), folder.display());
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n\
             storage: {{filesystem: {{rootdirectory: {shown}/images}}}}\n"
        );
        if locked {
            std::fs::write(folder.join("htpasswd"), HTPASSWD).unwrap();
            config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {shown}/htpasswd}}}}\n"));
        }
        std::fs::write(folder.join("config.yml"), config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(folder.join("config.yml"));
        let mut inside = cluster.host().enter(&command);
        let process =
            inside.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("the registry answers", || {
            let url = format!("http://{address}/v2/");
            let output =
                cluster.host().run(Command::new("curl").args(["-s", "-m", "2", "-o", "/dev/null", &url]));
            if output.status.success() { Ok(()) } else { Err(output.status) }
        });
        Self { address, process }
    }

    /// Puts the demo image there under this name; the runtime forgets it again. Its name in full.
    fn put(&self, cluster: &Cluster, name: &str) -> String {
        let image = format!("{}/{name}", self.address);
        let socket = cluster.data_dir().join("run/containerd.sock");
        let (demo, (user, password)) = (Cluster::demo_image(), USER);
        let ctr = format!("ctr --address {} --namespace k8s.io images", socket.display());
        cluster.host().sh(&format!(
            "{ctr} tag {demo} {image} && {ctr} push --plain-http --user {user}:{password} {image} && {ctr} rm {image}"
        ));
        image
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn pod(name: &str, image: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  \
         terminationGracePeriodSeconds: 0\n  {more}\n  containers: [{{name: app, image: '{image}', \
         command: [sh, -c, 'sleep 600']}}]\n"
    )
}

fn events(kubectl: &Kubectl, pod: &str) -> String {
    kubectl.ok(&format!(
        "get events --field-selector involvedObject.name={pod} -o jsonpath={{.items[*].message}}"
    ))
}

fn runs(kubectl: &Kubectl, pod: &str) {
    kubectl.ok(&format!("wait --for=condition=Ready pod/{pod} --timeout=60s"));
}

fn base64(text: &str) -> String {
    let mut child =
        Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn pulls_with_and_without_credentials() {
    let auth = base64(&format!("{}:{}", USER.0, USER.1));
    // The node itself may pull what lies below /node.
    let of_node = format!(r#"{{"auths":{{"http://localhost:5001/node":{{"auth":"{auth}"}}}}}}"#);
    let files = vec![("kubelet/config.json".to_owned(), of_node)];
    let cluster = Cluster::start_with(Options { files, ..Options::default() });
    let kubectl = cluster.kubectl();
    let (open, locked) = (Registry::start(&cluster, 5000, false), Registry::start(&cluster, 5001, true));

    let image = open.put(&cluster, "team/app:1");
    kubectl.apply(&pod("open", &image, ""));
    runs(&kubectl, "open");
    let told = events(&kubectl, "open");
    assert!(told.contains(&format!("Pulling image \"{image}\"")), "{told}");
    assert!(told.contains(&format!("Successfully pulled image \"{image}\" in ")), "{told}");
    assert!(told.contains("including waiting). Image size: "), "{told}");
    kubectl.apply(&pod("again", &image, ""));
    runs(&kubectl, "again");
    let told = events(&kubectl, "again");
    assert!(told.contains(&format!("Container image \"{image}\" already present on machine")), "{told}");

    // Without credentials, and with those of somebody else, there is no image.
    let image = locked.put(&cluster, "team/app:1");
    let server = "--docker-server=localhost:5001";
    kubectl
        .ok(&format!("create secret docker-registry wrong {server} --docker-username=x --docker-password=y"));
    kubectl.apply(&pod("none", &image, ""));
    kubectl.apply(&pod("wrong", &image, "imagePullSecrets: [{name: wrong}]"));
    for name in ["none", "wrong"] {
        let reason = "{.status.containerStatuses[0].state.waiting.reason}";
        eventually("it waits", || match kubectl.field(&format!("pod/{name}"), reason) {
            it if it == "ImagePullBackOff" => Ok(()),
            other => Err(other),
        });
        let told = events(&kubectl, name);
        for part in [
            format!("Failed to pull image \"{image}\": "),
            "Error: ErrImagePull".to_owned(),
            format!("Back-off pulling image \"{image}\""),
            "Error: ImagePullBackOff".to_owned(),
        ] {
            assert!(told.contains(&part), "{part} in {told}");
        }
    }

    // With several secrets, the one that is right is found; an old one in dockercfg's form will do.
    let old = format!(r#"{{"localhost:5001/team":{{"username":"{}","password":"{}"}}}}"#, USER.0, USER.1);
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: right}}\ntype: kubernetes.io/dockercfg\ndata: \
         {{.dockercfg: {}}}\n",
        base64(&old)
    );
    kubectl.apply(&secret);
    kubectl.apply(&pod(
        "several",
        &image,
        "imagePullSecrets: [{name: missing}, {name: wrong}, {name: right}]",
    ));
    runs(&kubectl, "several");
    let told = events(&kubectl, "several");
    assert!(told.contains("Unable to retrieve some image pull secrets (missing); attempting"), "{told}");
    let (user, password) = USER;
    kubectl.ok(&format!(
        "create secret docker-registry new {server} --docker-username={user} --docker-password={password}"
    ));
    kubectl.apply(&pod("new", &image, "imagePullSecrets: [{name: new}]"));
    runs(&kubectl, "new");
    // The image is there now, and still for none but those who know the password.
    kubectl.apply(&pod("stranger", &image, ""));
    eventually("it is refused", || {
        let told = events(&kubectl, "stranger");
        if told.contains("Failed to pull image") { Ok(()) } else { Err(told) }
    });

    let image = locked.put(&cluster, "node/app:1");
    kubectl.apply(&pod("node", &image, ""));
    runs(&kubectl, "node");
    kubectl.ok("delete pods --all --wait=false");
}

#[test]
fn a_followed_log_misses_nothing_when_it_is_rotated() {
    let kubelet = "containerLogMaxSize: 64Ki\ncontainerLogMaxFiles: 3\n".to_owned();
    let cluster = Cluster::start_with(Options { kubelet, ..Options::default() });
    let kubectl = cluster.kubectl();
    // Some 64 KiB a second, for about ten seconds.
    let script = "n=0; while [ $n -lt 10000 ]; do n=$((n+1)); echo line $n of a log that grows; \
                  [ $((n % 100)) != 0 ] || sleep 0.1; done; sleep 4; echo late; sleep 600";
    let image = Cluster::demo_image();
    kubectl.apply(&pod("talks", &image, "").replace("sleep 600", script));
    runs(&kubectl, "talks");
    let follow =
        kubectl.args(&["logs", "-f", "talks"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut follow, reader) = reading(follow);
    eventually_within(Duration::from_secs(90), "the last line", || {
        if reader.is_finished() { Ok(()) } else { Err("not yet") }
    });
    let lines = reader.join().unwrap();
    follow.kill().unwrap();
    follow.wait().unwrap();
    let missing: Vec<usize> =
        (1..=10_000).filter(|n| lines.get(n - 1) != Some(&format!("line {n} of a log that grows"))).collect();
    assert!(
        missing.is_empty(),
        "{} lines, of which these are not in their place: {:?}",
        lines.len(),
        &missing[..3.min(missing.len())]
    );

    let folder = cluster.data_dir();
    let files = cluster
        .host()
        .sh(&format!("find {} -path '*default_talks_*' -name '0.log*' -printf '%f\\n'", folder.display()));
    let names: Vec<&str> = files.lines().collect();
    assert!((2..=3).contains(&names.len()), "{names:?}");
    assert!(names.iter().any(|it| it.ends_with(".gz")), "{names:?}");
}

/// Reads lines up to the late one.
fn reading(mut child: Child) -> (Child, std::thread::JoinHandle<Vec<String>>) {
    use std::io::BufRead;
    let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut lines = Vec::new();
        for line in stdout.lines().map_while(Result::ok) {
            if line == "late" {
                return lines;
            }
            lines.push(line);
        }
        panic!("the log ended after {} lines", lines.len());
    });
    (child, reader)
}

#[test]
fn variables_come_from_a_file_of_a_volume() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    let image = Cluster::demo_image();
    let manifest = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"env"}},"spec":{{"restartPolicy":"Never",
        "volumes":[{{"name":"v","emptyDir":{{}}}}],
        "initContainers":[{{"name":"writes","image":"{image}","volumeMounts":[{{"name":"v","mountPath":"/v"}}],
            "command":["sh","-c","echo \"COLOUR='deep blue'\" > /v/vars"]}}],
        "containers":[{{"name":"reads","image":"{image}","command":["sh","-c","echo it is $COLOUR"],"env":[{{"name":"COLOUR",
            "valueFrom":{{"fileKeyRef":{{"volumeName":"v","path":"vars","key":"COLOUR"}}}}}}]}}]}}}}"#
    );
    kubectl.apply(&manifest);
    eventually("it is over", || match kubectl.field("pod/env", "{.status.phase}") {
        it if it == "Succeeded" => Ok(()),
        other => Err((other, events(&kubectl, "env"))),
    });
    assert_eq!(kubectl.ok("logs env").trim(), "it is deep blue");
}

#[test]
fn an_image_is_a_volume_where_the_runtime_can() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    let image = Cluster::demo_image();
    let manifest = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"mounts"}},"spec":{{"restartPolicy":"Never",
        "volumes":[{{"name":"v","image":{{"reference":"{image}"}}}}],
        "containers":[{{"name":"app","image":"{image}","command":["sh","-c","ls /image/bin"],
            "volumeMounts":[{{"name":"v","mountPath":"/image"}}]}}]}}}}"#
    );
    // One that cannot be had is named, not the container's own.
    let none = "localhost:5999/none:1";
    let reference = format!(r#""reference":"{image}""#);
    let absent = manifest.replace("mounts", "waits").replace(&reference, &format!(r#""reference":"{none}""#));
    kubectl.apply(&absent);
    kubectl.apply(&manifest);
    eventually("it waits for the image of its volume", || {
        let message = kubectl.field("pod/waits", "{.status.containerStatuses[0].state.waiting.message}");
        if message.contains(&format!("Back-off pulling image \"{none}\"")) { Ok(()) } else { Err(message) }
    });
    let node = format!("node/{}", cluster.host().name());
    let runtime = kubectl.field(&node, "{.status.nodeInfo.containerRuntimeVersion}");
    let version = runtime.trim_start_matches("containerd://").trim_start_matches('v');
    let mut numbers = version.split(['.', '-', '~']).map_while(|it| it.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(2), Some(1)) {
        // This runtime would mount an empty folder in its place.
        eventually("it is refused by name", || {
            let path = "{.status.containerStatuses[0].state.waiting.message}";
            let message = kubectl.field("pod/mounts", path);
            if message.contains("image volumes are not supported by containerd") {
                Ok(())
            } else {
                Err(message)
            }
        });
        return;
    }
    eventually("it is over", || match kubectl.field("pod/mounts", "{.status.phase}") {
        it if it == "Succeeded" => Ok(()),
        other => Err((other, events(&kubectl, "mounts"))),
    });
    assert!(kubectl.ok("logs mounts").lines().any(|it| it == "demo" || it == "sh"));
}

#[test]
fn unused_images_go_when_their_file_system_is_too_full() {
    let kubelet = "imageGCHighThresholdPercent: 1\nimageGCLowThresholdPercent: 0\n".to_owned();
    let cluster = Cluster::start_with(Options { kubelet, ..Options::default() });
    let kubectl = cluster.kubectl();
    let registry = Registry::start(&cluster, 5000, false);
    let (used, unused) = (registry.put(&cluster, "used:1"), "reg.example/unused:1");
    // Another image than the one that is used: its own bytes under its own id.
    let socket = cluster.data_dir().join("run/containerd.sock").display().to_string();
    let ctr = format!("ctr --address {socket} --namespace k8s.io images");
    cluster.host().sh(&other_image(&cluster, &ctr, unused));
    kubectl.apply(&pod("uses", &used, ""));
    runs(&kubectl, "uses");
    let there = || cluster.host().sh(&format!("{ctr} ls -q"));
    assert!(there().contains(unused), "{}", there());
    eventually_within(Duration::from_secs(60), "the unused image is gone", || {
        let there = there();
        if there.contains(unused) { Err(there) } else { Ok(()) }
    });
    let left = there();
    assert!(left.contains(&used) && left.contains("pause"), "{left}");
    let node = cluster.host().name().to_owned();
    eventually("it is told that this is not enough", || {
        let told = events(&kubectl, &node);
        let want = "Insufficient free disk space on the node's image filesystem (";
        if told.contains(want) { Ok(()) } else { Err(told) }
    });
    // Collectors find the log by its pod's name.
    let link = format!("{}/log/containers/uses_default_app-*.log", cluster.data_dir().display());
    cluster.host().sh(&format!("test -e {link}"));
    kubectl.ok("delete pod uses --grace-period=0 --force");
    eventually("the link is gone", || {
        let left = cluster.host().sh(&format!("ls {link} 2>/dev/null || true"));
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

/// A line of shell that imports an image with nothing but its own name in it.
fn other_image(cluster: &Cluster, ctr: &str, name: &str) -> String {
    let folder = cluster.data_dir().join("other");
    let layer = "tar cf layer.tar layer.txt";
    let sum = "sha256sum layer.tar | cut -d' ' -f1";
    let config = r#"{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:$sum\"]}}"#;
    let manifest = format!(r#"[{{"Config":"config.json","RepoTags":["{name}"],"Layers":["layer.tar"]}}]"#);
    format!(
        "mkdir -p {0} && cd {0} && echo other > layer.txt && {layer} && sum=$({sum}) && echo \"{config}\" > config.json && \
         echo '{manifest}' > manifest.json && tar cf image.tar manifest.json config.json layer.tar && {ctr} import image.tar",
        folder.display()
    )
}
