"""The part of deploy/check that reads files: YAML, JSON, schemas, and what the files must say of each other.

    check.py                    everything below deploy/
    check.py manifests FILE     Kubernetes manifests that kustomize rendered
    check.py queries FILE       writes the dashboard's queries to FILE as rules, for promtool to parse

Prints each fault on a line, and exits with 1 if there was one. Never writes anything but FILE.
"""

import json
import re
import sys
from pathlib import Path

import kubernetes_validate
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# The oldest and the newest release whose schemas the manifests must meet.
KUBERNETES = ("1.30", "1.37")
METRIC = re.compile(r"\b(?:stepgate|process)_[a-z0-9_]+")
# What the text format appends to the name of a histogram.
SUFFIX = re.compile(r"_(bucket|sum|count)$")

faults: list[str] = []


def expect(holds: bool, fault: str) -> None:
    """Notes a fault unless `holds`."""
    if not holds:
        faults.append(fault)


def documents(path: Path) -> list[dict]:
    """All documents of a YAML file that are not empty."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


# -- Kubernetes -------------------------------------------------------------------------------------------------------


def check_schemas(resources: list[dict], where: str) -> None:
    for resource in resources:
        name = f"{where}: {resource.get('kind')}"
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(resource, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                faults.append(f"{name}: Kubernetes {version}: {error.message} at {'.'.join(map(str, error.path))}")
            except kubernetes_validate.SchemaNotFoundError as error:
                faults.append(f"{name}: Kubernetes {version} has no schema: {error}")


def seconds(text: str) -> int:
    """A duration of gateway.yaml in whole seconds."""
    number, unit = re.fullmatch(r"(\d+)(s|m|h)", text).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def check_manifests(resources: list[dict], gateway: dict) -> None:
    by_kind: dict[str, list[dict]] = {}
    for resource in resources:
        by_kind.setdefault(resource["kind"], []).append(resource)
    (workload,) = by_kind["StatefulSet"]
    pod = workload["spec"]["template"]
    labels, spec = pod["metadata"]["labels"], pod["spec"]
    (container,) = spec["containers"]

    # Who it runs as, and what it may do.
    expect(spec["securityContext"].get("runAsNonRoot") is True, "pod: may run as root")
    expect(spec["securityContext"].get("seccompProfile") == {"type": "RuntimeDefault"}, "pod: no seccomp profile")
    expect(spec.get("automountServiceAccountToken") is False, "pod: gets a token for the cluster's API")
    context = container["securityContext"]
    expect(context.get("readOnlyRootFilesystem") is True, "container: may write to its root file system")
    expect(context.get("allowPrivilegeEscalation") is False, "container: may gain privileges")
    expect(context.get("capabilities") == {"drop": ["ALL"]}, "container: keeps capabilities")

    # Probes ask the admin listener, which the configuration must put where the kubelet reaches it.
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz"), ("startupProbe", "/livez")):
        expect(container[probe]["httpGet"] == {"path": path, "port": "admin"}, f"container: {probe} does not ask {path}")
    expect(gateway["admin"]["address"] == f"0.0.0.0:{ports['admin']}", "gateway.yaml: probes cannot reach the admin listener")
    listening = {int(listener["address"].rsplit(":", 1)[1]) for listener in gateway["listeners"]}
    expect(listening == {ports["https"], ports["http"]}, "gateway.yaml: listeners and container ports differ")

    # Stopping takes the wait and the drain, with room to spare.
    wait = seconds(gateway["server"]["drain_delay"])
    expect(wait > 0, "gateway.yaml: refuses connections before balancers know that it ends")
    drain = seconds(gateway["server"]["drain_timeout"])
    expect(spec["terminationGracePeriodSeconds"] > wait + drain + 5, "pod: is killed before it has drained")

    # The audit log outlives the pod, and each file that the configuration names is in a volume that is there.
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    claims = {claim["metadata"]["name"] for claim in workload["spec"]["volumeClaimTemplates"]}
    state = mounts.get(gateway["server"]["state_dir"])
    expect(state is not None and state["name"] in claims, "pod: state_dir is not on a persistent volume")
    volumes = claims | {volume["name"] for volume in spec["volumes"]}
    for mount in mounts.values():
        expect(mount["name"] in volumes, f"container: no volume {mount['name']}")
        expect("subPath" not in mount, f"container: {mount['name']} is mounted by subPath and would never be reloaded")
    for file in files_in(gateway):
        expect(any(file.startswith(f"{path}/") for path in mounts), f"gateway.yaml: {file} is in no volume")

    # Everything that selects the pods selects these pods.
    selectors = [workload["spec"]["selector"]["matchLabels"]]
    selectors += [budget["spec"]["selector"]["matchLabels"] for budget in by_kind["PodDisruptionBudget"]]
    selectors += [policy["spec"]["podSelector"]["matchLabels"] for policy in by_kind["NetworkPolicy"]]
    selectors += [service["spec"]["selector"] for service in by_kind["Service"]]
    for selector in selectors:
        expect(selector.items() <= labels.items(), f"selector {selector} does not select the pods")
    names = {service["metadata"]["name"]: service for service in by_kind["Service"]}
    expect(workload["spec"]["serviceName"] in names, "statefulset: its service is not there")
    for service in names.values():
        headless = service["spec"].get("clusterIP") == "None"
        for port in service["spec"]["ports"]:
            expect(port["targetPort"] in ports, f"service {service['metadata']['name']}: no port {port['targetPort']}")
            expect(headless or port["targetPort"] != "admin", "service: clients can reach the admin listener")
    (policy,) = by_kind["NetworkPolicy"]
    expect(set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}, "networkpolicy: does not close both ways")
    for rule in policy["spec"]["ingress"]:
        admin = any(port["port"] in ("admin", ports["admin"]) for port in rule["ports"])
        expect(not admin or rule.get("from"), "networkpolicy: anybody may reach the admin listener")


def files_in(node: object, key: str = "") -> list[str]:
    """The absolute paths that a configuration names under `cert`, `key`, `file` and the like."""
    if isinstance(node, dict):
        return [file for name, value in node.items() for file in files_in(value, name)]
    if isinstance(node, list):
        return [file for value in node for file in files_in(value, key)]
    return [node] if key in ("cert", "key", "file", "ca", "client_ca", "jwks_file") and str(node).startswith("/") else []


# -- compose and the image --------------------------------------------------------------------------------------------


def check_compose(compose: dict, gateway: dict) -> None:
    services, networks = compose["services"], compose["networks"]
    for name, service in services.items():
        expect(service.get("read_only") is True, f"compose: {name} may write to its root file system")
        expect(service.get("cap_drop") == ["ALL"], f"compose: {name} keeps capabilities")
        expect("no-new-privileges:true" in service.get("security_opt", []), f"compose: {name} may gain privileges")
        expect(not service.get("privileged"), f"compose: {name} is privileged")
        for network in service.get("networks", []):
            expect(network in networks, f"compose: {name} is in the network {network}, which is not there")
        for port in service.get("ports", []):
            expect(port.startswith("127.0.0.1:"), f"compose: {name} publishes {port} to everybody")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            known = (HERE / source).exists() if source.startswith(".") else source in compose["volumes"]
            expect(known, f"compose: {name} mounts {source}, which is not there")
        expect(not re.search(r":latest$", service.get("image", "")), f"compose: {name} has no fixed version")
    admin = gateway["admin"]["address"].rsplit(":", 1)[1]
    published = [port.rsplit(":", 1)[1] for port in services["gateway"]["ports"]]
    expect(admin not in published, "compose: the admin listener is published")
    expect(all(networks[network].get("internal") for network in services["api"]["networks"]), "compose: the API can be reached around the gateway")
    for target in gateway["upstreams"]["api"]["targets"]:
        expect("//api:" in target, f"compose: {target} is not the service api")
    used = set(re.findall(r"\$\{(\w+)\}", (HERE / "compose/gateway.yaml").read_text()))
    expect(used == set(services["gateway"]["environment"]), "compose: the environment is not what gateway.yaml asks for")


def check_image(dockerfile: str, workload: dict) -> None:
    lines = [line for line in dockerfile.splitlines() if line and not line.startswith("#")]
    final = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM ")):]
    users = [line.split()[1] for line in final if line.startswith("USER ")]
    expect(bool(users) and users[-1].split(":")[0] not in ("0", "root"), "Dockerfile: runs as root")
    uid = workload["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    expect(users == [f"{uid}:{uid}"], "Dockerfile: the user is not the one in the manifests")
    expect("--locked" in dockerfile, "Dockerfile: does not build what Cargo.lock says")
    rust = re.search(r"rust:(\d+\.\d+)", dockerfile).group(1)
    wanted = re.search(r'rust-version = "(\d+\.\d+)', (ROOT / "Cargo.toml").read_text()).group(1)
    expect([*map(int, rust.split("."))] >= [*map(int, wanted.split("."))], f"Dockerfile: Rust {rust}, but Cargo.toml wants {wanted}")
    expect(f"RUSTUP_TOOLCHAIN={rust}." in dockerfile, "Dockerfile: the pinned toolchain is not the image's")


# What the unit must say, whatever else it does; systemd-analyze scores the rest where it is there.
UNIT = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RestrictNamespaces": "yes",
    "CapabilityBoundingSet": "CAP_NET_BIND_SERVICE",
    "StateDirectory": "stepgate",
    "StateDirectoryMode": "0700",
    "ExecReload": "/bin/kill -HUP $MAINPID",
    "KillSignal": "SIGTERM",
    "RestartPreventExitStatus": "2 78",
}


def check_unit(text: str, gateway: dict) -> None:
    settings: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            settings.setdefault(key, []).append(value)
    for key, value in UNIT.items():
        expect(settings.get(key) == [value], f"stepgate.service: {key} is {settings.get(key)}, not {value}")
    expect(settings.get("User") not in (None, ["root"]), "stepgate.service: runs as root")
    stop, drain = int(settings["TimeoutStopSec"][0]), seconds(gateway["server"]["drain_timeout"])
    expect(stop > drain + 5, "stepgate.service: is killed before it has drained")


# -- metrics ----------------------------------------------------------------------------------------------------------


def metrics_in(text: str) -> set[str]:
    return set(METRIC.findall(text))


def families(names: set[str], known: set[str]) -> set[str]:
    """The names without the suffixes of histograms."""
    return {name if name in known else SUFFIX.sub("", name) for name in names}


def check_metrics(rules: str, tests: str, queries: list[str]) -> None:
    reference = ROOT / "docs/metrics.md"
    if not reference.exists():
        faults.append("docs/metrics.md is not there, so no name of a metric could be checked")
        return
    known = metrics_in(reference.read_text())
    known = {name for name in known if not (SUFFIX.search(name) and SUFFIX.sub("", name) in known)}
    shown = families(metrics_in("\n".join(queries)), known)
    for where, used in (("rules.yml", metrics_in(rules)), ("rules.test.yml", metrics_in(tests)), ("dashboard", shown)):
        for name in sorted(families(used, known) - known):
            faults.append(f"{where}: there is no metric {name}")
    for name in sorted(known - shown):
        faults.append(f"dashboard: no panel shows {name}")


def check_rules(rules: dict, tests: dict) -> None:
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    tested = {case["alertname"] for test in tests["tests"] for case in test["alert_rule_test"] if case["exp_alerts"]}
    runbook = (ROOT / "docs/operations.md").read_text()
    for rule in alerts:
        name = rule["alert"]
        expect(name in tested, f"rules.test.yml: no test makes {name} fire")
        expect(rule["labels"].get("severity") in ("page", "ticket"), f"rules.yml: {name} has no severity")
        expect({"summary", "description"} <= rule["annotations"].keys(), f"rules.yml: {name} does not say what it means")
        expect(name in runbook, f"docs/operations.md: nothing says what to do about {name}")


def dashboard_queries(dashboard: dict) -> list[str]:
    """Every query of the dashboard, its variables replaced by what PromQL can parse."""
    texts: list[str] = []
    panels = [inner for panel in dashboard["panels"] for inner in (panel, *panel.get("panels", []))]
    for panel in panels:
        texts += [target["expr"] for target in panel.get("targets", [])]
    texts = [re.sub(r"\$__rate_interval|\$__range|\$__interval", "5m", text) for text in texts]
    return [re.sub(r"\$\{?\w+\}?", ".*", text) for text in texts]


def check_dashboard(dashboard: dict) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    expect(len(ids) == len(set(ids)), "dashboard: two panels have one id")
    for panel in dashboard["panels"]:
        name = panel.get("title")
        expect(bool(name), f"dashboard: panel {panel['id']} has no title")
        if panel["type"] == "row":
            continue
        expect(bool(panel.get("description")), f"dashboard: {name} does not say what it shows")
        expect(bool(panel.get("targets")), f"dashboard: {name} asks nothing")
        expect(panel["datasource"]["uid"] == "${datasource}", f"dashboard: {name} is bound to one data source")
    places = [(panel["gridPos"], panel["title"]) for panel in dashboard["panels"]]
    for i, (a, first) in enumerate(places):
        for b, second in places[i + 1:]:
            apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
            expect(apart, f"dashboard: {first} and {second} overlap")


# -- entry ------------------------------------------------------------------------------------------------------------


def check_all() -> None:
    for path in [*HERE.rglob("*.yaml"), *HERE.rglob("*.yml")]:
        try:
            documents(path)
        except yaml.YAMLError as error:
            faults.append(f"{path.relative_to(ROOT)}: {error}")
    if faults:
        return

    folder = HERE / "kubernetes"
    listed = documents(folder / "kustomization.yaml")[0]["resources"]
    there = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml", "gateway.yaml"}
    expect(set(listed) == there, f"kustomization.yaml: lists {sorted(set(listed) ^ there)} wrongly")
    resources = [resource for name in listed for resource in documents(folder / name)]
    check_schemas(resources, "kubernetes")
    check_manifests(resources, documents(folder / "gateway.yaml")[0])

    check_compose(documents(HERE / "compose.yaml")[0], documents(HERE / "compose/gateway.yaml")[0])
    (workload,) = [resource for resource in resources if resource["kind"] == "StatefulSet"]
    check_image((HERE / "Dockerfile").read_text(), workload)

    check_unit((HERE / "systemd/stepgate.service").read_text(), documents(folder / "gateway.yaml")[0])

    rules, tests = HERE / "prometheus/rules.yml", HERE / "prometheus/rules.test.yml"
    check_rules(documents(rules)[0], documents(tests)[0])
    dashboard = json.loads((HERE / "grafana/stepgate.json").read_text())
    check_dashboard(dashboard)
    check_metrics(rules.read_text(), tests.read_text(), dashboard_queries(dashboard))


def main(arguments: list[str]) -> int:
    if not arguments:
        check_all()
    elif len(arguments) == 2 and arguments[0] == "manifests":
        resources = documents(Path(arguments[1]))
        check_schemas(resources, "rendered")
        (config,) = [resource for resource in resources if resource["kind"] == "ConfigMap"]
        check_manifests(resources, yaml.safe_load(config["data"]["gateway.yaml"]))
    elif len(arguments) == 2 and arguments[0] == "queries":
        dashboard = json.loads((HERE / "grafana/stepgate.json").read_text())
        rules = [{"record": f"dashboard:query{i}", "expr": q} for i, q in enumerate(dashboard_queries(dashboard))]
        Path(arguments[1]).write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    else:
        print(__doc__, file=sys.stderr)
        return 2
    for fault in faults:
        print(fault)
    return 1 if faults else 0


sys.exit(main(sys.argv[1:]))
