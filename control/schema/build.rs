//! Takes the descriptions of types and fields out of the client library and packs them for `openapi`.

#[cfg(not(feature = "descriptions"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}

#[cfg(feature = "descriptions")]
fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    described::pack()
}

#[cfg(feature = "descriptions")]
mod described {
    use std::fmt::Write as _;
    use std::io::Write as _;
    use std::path::PathBuf;

    use k8s_openapi::schemars::SchemaGenerator;
    use serde_json::Value;

    /// Writes `descriptions.gz`: a line per type, then one per field; see `openapi::descriptions`.
    pub(super) fn pack() -> std::io::Result<()> {
        let out = std::env::var_os("OUT_DIR").ok_or_else(|| std::io::Error::other("OUT_DIR is not set"))?;
        let file = std::fs::File::create(PathBuf::from(out).join("descriptions.gz"))?;
        let mut packer = flate2::write::GzEncoder::new(file, flate2::Compression::best());
        packer.write_all(text().as_bytes())?;
        packer.finish()?;
        Ok(())
    }

    fn text() -> String {
        let mut generator = SchemaGenerator::default();
        add_kinds(&mut generator);
        let mut text = String::new();
        for (name, schema) in generator.definitions() {
            _ = writeln!(text, "{name}\t{}", line(&schema["description"]));
            for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
                _ = writeln!(text, "\t{field}\t{}", line(&schema["description"]));
            }
        }
        text
    }

    /// A text as one line.
    fn line(text: &Value) -> String {
        text.as_str().unwrap_or_default().replace('\n', "\u{1}").replace(['\t', '\r'], " ")
    }

    macro_rules! add_kinds {
        ($($first:ident $(:: $rest:ident)*: $($kind:ident),+;)+) => {
            /// Adds the schema of every kind, and with it those of the types it holds.
            fn add_kinds(generator: &mut SchemaGenerator) {
                $({
                    use k8s_openapi::$first$(::$rest)* as group;
                    $(generator.subschema_for::<group::$kind>();)+
                })+
            }
        };
    }

    add_kinds! {
        api::admissionregistration::v1: MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
            ValidatingWebhookConfiguration;
        api::admissionregistration::v1alpha1: MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding;
        api::admissionregistration::v1beta1: MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding;
        api::apiserverinternal::v1alpha1: StorageVersion;
        api::apps::v1: ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet;
        api::authentication::v1: SelfSubjectReview, TokenRequest, TokenReview;
        api::authorization::v1: LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview,
            SubjectAccessReview;
        api::autoscaling::v1: HorizontalPodAutoscaler, Scale;
        api::autoscaling::v2: HorizontalPodAutoscaler;
        api::batch::v1: CronJob, Job;
        api::certificates::v1: CertificateSigningRequest;
        api::certificates::v1alpha1: ClusterTrustBundle;
        api::certificates::v1beta1: ClusterTrustBundle, PodCertificateRequest;
        api::coordination::v1: Lease;
        api::coordination::v1alpha2: LeaseCandidate;
        api::coordination::v1beta1: LeaseCandidate;
        api::core::v1: Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node,
            PersistentVolume, PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota,
            Secret, Service, ServiceAccount;
        api::discovery::v1: EndpointSlice;
        api::events::v1: Event;
        api::flowcontrol::v1: FlowSchema, PriorityLevelConfiguration;
        api::networking::v1: IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR;
        api::networking::v1beta1: IPAddress, ServiceCIDR;
        api::node::v1: RuntimeClass;
        api::policy::v1: Eviction, PodDisruptionBudget;
        api::rbac::v1: ClusterRole, ClusterRoleBinding, Role, RoleBinding;
        api::resource::v1: DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice;
        api::resource::v1alpha3: DeviceTaintRule, ResourcePoolStatusRequest;
        api::resource::v1beta1: DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice;
        api::resource::v1beta2: DeviceClass, DeviceTaintRule, ResourceClaim, ResourceClaimTemplate,
            ResourceSlice;
        api::scheduling::v1: PriorityClass;
        api::scheduling::v1alpha2: PodGroup, Workload;
        api::storage::v1: CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
            VolumeAttributesClass;
        api::storage::v1beta1: VolumeAttributesClass;
        api::storagemigration::v1beta1: StorageVersionMigration;
        apiextensions_apiserver::pkg::apis::apiextensions::v1: CustomResourceDefinition;
        apimachinery::pkg::apis::meta::v1: APIGroup, APIGroupList, APIResourceList, APIVersions, Status,
            DeleteOptions,
            ListMeta;
        kube_aggregator::pkg::apis::apiregistration::v1: APIService;
    }
}
