"""What setup.cfg cannot say: the commands are the files in bin/, and how they start once installed."""

from glob import glob

from setuptools import setup

from distutils.command.build_scripts import build_scripts  # isort: skip (setuptools brings it)

# pip puts its own interpreter into a script's first line but drops the options there, and
# -IS is a third of a small command's time.  /bin/sh costs 1 ms, keeps them, and finds the
# interpreter beside the script (an environment's) or the system's; to Python it is a string.
FIRST_LINES = b"""#!/bin/sh
''':'
self=$0; [ ! -L "$self" ] || self=$(/usr/bin/readlink -f -- "$self")
python=${self%/*}/python3; [ -x "$python" ] || python=/usr/bin/python3
exec "$python" -ISXutf8 "$self" "$@"
'''
"""


class Launchers(build_scripts):
    def copy_scripts(self) -> tuple[list[str], list[str]]:
        scripts, updated = super().copy_scripts()
        for path in updated:
            with open(path, "rb+") as script:
                first, _, rest = script.read().partition(b"\n")
                if b"python" in first:  # not one that /bin/sh starts already
                    script.seek(0)
                    script.write(FIRST_LINES + rest)
        return scripts, updated


setup(scripts=sorted(glob("bin/*")), cmdclass={"build_scripts": Launchers})
