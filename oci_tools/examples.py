"""One line for the head of `--help` of each verb of the two commands that have most: read only where help is shown."""

from __future__ import annotations

_RUN = """\
create -b ./b --pid-file pid c1
start c1
run -b ./b c1
state c1
kill c1 TERM
delete --force c1
exec -it web sh
features > f.json
pause web
resume web
unpause web
ps web
list --fields id,status
update --memory 64m web
events --stats web
spec -b ./b
checkpoint --image-path ./kept web
restore -b ./b --image-path ./kept c2
mount add web /srv/data /data
mount rm web /data
unshare id
new --name web -v data:/data nginx
stop -t 5 web
restart web
adopt web
wait web
logs -f --tail 20 web
attach web
stats --no-stream
top web
diff web
cp ./conf web:/etc/app
export web | tar -t
rename web www
rm -f web"""
_CTL = """\
run -d --name web -p 8080:80 nginx
create --name web nginx
start web
stop -t 5 web
restart web
kill -s HUP web
pause web
unpause web
rm -f web
ps -a
inspect --format '{{.State.Status}}' web
logs -f --tail 20 web
attach web
exec -it web sh
wait --condition healthy web
top web
stats --plot
cp ./conf web:/etc/app
port web
rename web www
update --memory 64m web
events --since 10m
diff web
commit web app:2
export web | tar -t
images
pull alpine
push registry.example/app:1
build -t app .
tag app app:1
rmi app:1
history app
save app | ssh host oci-ctl load
load < app.tar
import - app:1 < tree.tar
login registry.example
logout registry.example
kube play pod.yaml
kube down pod.yaml
kube generate web > pod.yaml
network ls
network create --subnet 10.9.0.0/24 web
network rm web
network inspect web
network connect web db
network disconnect web db
network prune
volume ls
volume create data
volume rm data
volume inspect data
volume prune
system df
system prune
system dial-stdio
context create prod ssh://root@prod
context ls
context use prod
context inspect prod
context rm prod
info
version
prune
completion bash > /etc/bash_completion.d/oci-ctl"""


def of(name: str) -> str:
    """The example of a verb by its whole name, like `oci-ctl network ls`; "" where there is none here."""
    for command, lines in (("oci-run", _RUN), ("oci-ctl", _CTL)):
        for line in lines.splitlines() if name.startswith(f"{command} ") else ():
            if f"{command} {line} ".startswith(f"{name} "):
                return f"{command} {line}"
    return ""
