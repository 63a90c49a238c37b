//! A pod's resolver configuration from its policy, its dnsConfig, the cluster and the machine.
