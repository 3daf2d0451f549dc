"""The verbs of images, networks, volumes, contexts and of the engine itself, declared."""

from __future__ import annotations

from oci_tools import cli
from oci_tools.cmd.ctl.declaring import FILTER, FORMAT, JSON, LIST, PRUNE, QUIET, SHOWN, WHOLE, verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.cli import Command, Option


def _family(name: str, summary: str, verbs: dict[str, Command]) -> Command:
    return cli.Command(f"oci-ctl {name}", summary, verbs=verbs)


IMAGES: dict[str, Command] = {
    "images": verb(
        "images",
        "list images",
        "[NAME]",
        (("-a --all", "flag", False, "all of them"), QUIET, FILTER, WHOLE, *LIST),
        "images.ls",
    ),
    "pull": verb(
        "pull",
        "have engines pull images",
        "IMAGE...",
        (
            ("-a --all-tags", "flag", False, "every tag"),
            ("--platform OS/ARCH", "text", "", "platform"),
            QUIET,
        ),
        "images.pull",
    ),
    "push": verb(
        "push",
        "have an engine push images",
        "IMAGE...",
        (("-a --all-tags", "flag", False, "every tag"), QUIET),
        "images.push",
    ),
    "build": verb(
        "build",
        "send a directory, and have it built",
        "DIRECTORY",
        (
            ("-t --tag IMAGE", "list", (), "name of the image"),
            ("-f --file FILE", "text", None, "the Dockerfile"),
            ("--build-arg NAME[=VALUE]", "list", (), "value of an ARG"),
            ("-l --label NAME=VALUE", "list", (), "a label"),
            ("--target STAGE", "text", "", "build this stage"),
            ("--no-cache", "flag", False, "do everything anew"),
            ("--pull", "flag", False, "ask registries for bases"),
            ("--network MODE", "text", "", "network of RUN"),
            ("--platform OS/ARCH", "text", "", "platform"),
            ("--add-host NAME:ADDRESS", "list", (), "one more line of /etc/hosts"),
            ("-q --quiet", "flag", False, "only the image's id"),
        ),
        "images.build",
    ),
    "tag": verb("tag", "give an image another name", "IMAGE NAME", (), "images.tag"),
    "rmi": verb(
        "rmi",
        "remove images",
        "IMAGE...",
        (
            ("-f --force", "flag", False, "though a container uses it"),
            ("--no-prune", "flag", False, "only names"),
        ),
        "images.rmi",
    ),
    "history": verb(
        "history", "list the steps that made an image", "IMAGE", (WHOLE, *LIST), "images.history"
    ),
    "save": verb(
        "save",
        "write images as an archive",
        "IMAGE...",
        (("-o --output FILE", "text", None, "into FILE"),),
        "images.save",
    ),
    "load": verb(
        "load",
        "read images from an archive",
        "",
        (("-i --input FILE", "text", None, "from FILE, not standard input"), QUIET),
        "images.load",
    ),
    "import": verb(
        "import",
        "make an image of a tar archive",
        "FILE [IMAGE]",
        (
            ("-m --message TEXT", "text", "", "why"),
            ("-c --change INSTRUCTION", "list", (), "an instruction"),
        ),
        "images.import_",
    ),
    "login": verb(
        "login",
        "try a name and password at a registry, and keep them here",
        "[SERVER]",
        (
            ("-u --username NAME", "text", "", "who"),
            (
                "--password-stdin",
                "flag",
                False,
                "read the password from standard input, as without a terminal",
            ),
        ),
        "images.login",
    ),
    "logout": verb("logout", "forget them", "[SERVER]", (), "images.logout"),
}
LABEL: Option = ("--label NAME=VALUE", "list", (), "a label")
OPT: Option = ("-o --opt NAME=VALUE", "list", (), "an option of the driver")
FORCE: Option = ("-f --force", "flag", False, "no error if there is none")
_NETWORKS = {
    "ls": verb("network ls", "list networks", "", (QUIET, FILTER, WHOLE, *LIST), "others.network_ls"),
    "create": verb(
        "network create",
        "make a network",
        "NAME",
        (
            ("-d --driver NAME", "text", "bridge", "what its links are"),
            ("--subnet SUBNET", "list", (), "its addresses"),
            ("--gateway ADDRESS", "list", (), "of a subnet"),
            ("--ip-range RANGE", "list", (), "of a subnet"),
            ("--aux-address NAME=ADDRESS", "list", (), "of a subnet, for somebody else"),
            ("--internal", "flag", False, "no way out"),
            ("--ipv6", "flag", False, "an IPv6 subnet too"),
            LABEL,
            OPT,
        ),
        "others.network_create",
    ),
    "rm": verb("network rm", "remove networks", "NETWORK...", (), "others.network_rm"),
    "inspect": verb(
        "network inspect", "show all that is known", "NETWORK...", (SHOWN,), "others.network_inspect"
    ),
    "connect": verb(
        "network connect",
        "let a container join",
        "NETWORK CONTAINER",
        (
            ("--ip ADDRESS", "text", "", "its IPv4 address"),
            ("--ip6 ADDRESS", "text", "", "its IPv6 address"),
            ("--alias NAME", "list", (), "one more name"),
        ),
        "others.network_connect",
    ),
    "disconnect": verb(
        "network disconnect",
        "let a container leave",
        "NETWORK CONTAINER",
        (FORCE,),
        "others.network_disconnect",
    ),
    "prune": verb("network prune", "remove networks nobody is on", "", PRUNE, "others.network_prune"),
}
_VOLUMES = {
    "ls": verb("volume ls", "list volumes", "", (QUIET, FILTER, *LIST), "others.volume_ls"),
    "create": verb(
        "volume create",
        "make a volume",
        "[NAME]",
        (("-d --driver NAME", "text", "local", "driver"), LABEL, OPT),
        "others.volume_create",
    ),
    "rm": verb("volume rm", "remove volumes", "VOLUME...", (FORCE,), "others.volume_rm"),
    "inspect": verb(
        "volume inspect", "show all that is known", "VOLUME...", (SHOWN,), "others.volume_inspect"
    ),
    "prune": verb(
        "volume prune",
        "remove unnamed volumes nobody uses",
        "",
        (("-a --all", "flag", False, "named ones too"), *PRUNE),
        "others.volume_prune",
    ),
}
_SYSTEM = {
    "df": verb("system df", "print what takes room", "", (JSON,), "others.df"),
    "prune": verb(
        "system prune",
        "remove what nobody uses",
        "",
        (
            ("-a --all", "flag", False, "all images without a container"),
            ("--volumes", "flag", False, "unnamed volumes too"),
            *PRUNE,
        ),
        "others.prune",
    ),
    "dial-stdio": verb(
        "system dial-stdio",
        "connect standard input and output to the engine: what ssh:// runs",
        "",
        (),
        "running.dial",
    ),
}
_CONTEXTS = {
    "create": verb(
        "context create",
        "name an engine",
        "NAME ADDRESS",
        (
            ("--ca FILE", "text", None, "certificates that sign the engine's"),
            ("--cert FILE", "text", None, "ours"),
            ("--key FILE", "text", None, "its key"),
        ),
        "others.context_create",
        local=True,
    ),
    "ls": verb("context ls", "list contexts", "", LIST, "others.context_ls", local=True),
    "use": verb("context use", "use a context from now on", "NAME", (), "others.context_use", local=True),
    "inspect": verb("context inspect", "show a context", "NAME", (), "others.context_inspect", local=True),
    "rm": verb("context rm", "forget contexts", "NAME...", (), "others.context_rm", local=True),
}
_START: Option = ("--start", "flag", True, "start it: the default; --start=false: only make it")
_KUBE = {
    "play": verb(
        "kube play",
        "make the pods, volumes and claims of a YAML file of Kubernetes, and start them",
        "FILE",
        (
            ("--replace", "flag", False, "first remove the pods of these names"),
            ("--down", "flag", False, "remove them, as 'kube down' does"),
            ("--force", "flag", False, "with --down: and the volumes that are claims"),
            ("--wait", "flag", False, "stay until all containers have ended, then remove the pods"),
            _START,
            ("--configmap FILE", "list", (), "more ConfigMaps and Secrets"),
            ("--network NETWORK", "text", "", "the pods' network (oci-kube, which is made if it is missing)"),
            ("-p --publish PORT", "list", (), "one more port: [ADDRESS:][HOST-PORT:]PORT[/PROTOCOL]"),
            ("--ip ADDRESS", "text", "", "the pod's IPv4 address"),
            ("--mac-address ADDRESS", "text", "", "its MAC address"),
            ("--annotation NAME=VALUE", "list", (), "one more annotation of each container"),
            ("--log-driver NAME", "text", "", "where their output is kept"),
            ("--log-opt NAME=VALUE", "list", (), "option of that"),
            QUIET,
        ),
        "kube.play",
    ),
    "down": verb(
        "kube down",
        "stop and remove the pods of a YAML file",
        "FILE",
        (("--force", "flag", False, "and the volumes that are claims"),),
        "kube_removing.down",
    ),
    "generate": verb(
        "kube generate",
        "print pods, containers (one pod of all) and volumes as YAML for Kubernetes",
        "NAME...",
        (
            ("-f --filename FILE", "text", None, "into FILE, which must not be there"),
            ("-s --service", "flag", False, "a Service of the published ports, too"),
            ("-t --type KIND", ("pod", "deployment"), "pod", "what a pod becomes"),
        ),
        "kube_generating.generate",
    ),
}
OTHERS: dict[str, Command] = {
    "kube": _family("kube", "pods of Kubernetes' YAML files", _KUBE),
    "network": _family("network", "networks", _NETWORKS),
    "volume": _family("volume", "volumes", _VOLUMES),
    "system": _family("system", "the engine", _SYSTEM),
    "context": _family("context", "names of engines", _CONTEXTS),
    "info": verb("info", "show what an engine says of itself", "", (FORMAT, JSON), "others.info"),
    "version": verb("version", "show versions", "", (FORMAT, JSON), "others.version"),
    "prune": verb("prune", "remove containers that have ended", "", PRUNE, "containers.prune"),
    "completion": verb(
        "completion",
        "print what a shell loads to complete the words of all our commands: bash, zsh or fish",
        "SHELL",
        (),
        "completion.show",
        local=True,
    ),
}
