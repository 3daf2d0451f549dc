"""What a shell loads to complete our commands' words: it asks the command itself (oci_tools/cli_complete.py)."""

from __future__ import annotations

from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.cli import Args

NAMES = "build ctl demo image net pack pull push registry run spec unpack vol"
COMMANDS = "oci-" + NAMES.replace(" ", " oci-") + " ocid"

# bash cuts words at = and :, which are glued again for us, and takes candidates from the last of them on.
BASH = r"""
_oci_complete() {
    local rest=$COMP_LINE words=() word lead cur prefix='' i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        lead=${rest%%"$word"*}
        [[ -n $word ]] || { lead=''; [[ $rest != [[:space:]]* ]] || lead=' '; }
        if [[ $i -gt 0 && -z $lead ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        rest=${rest#"$lead$word"}
    done
    cur=${words[-1]}
    [[ $cur == *[=:]* ]] && prefix=${cur%"${cur##*[=:]}"}
    COMPREPLY=()
    while read -r word; do
        word=${word%%$'\t'*}
        case $word in
        :files | :directories)
            compopt -o filenames
            i=-f
            [[ $word == :files ]] || i=-d
            while read -r lead; do COMPREPLY+=("$lead"); done < <(compgen "$i" -- "${cur#"$prefix"}")
            ;;
        *:) compopt -o nospace; COMPREPLY+=("${word#"$prefix"}") ;;
        ?*) COMPREPLY+=("${word#"$prefix"}") ;;
        esac
    done < <(_OCI_COMPLETE=1 "${words[@]}" 2>/dev/null)
}
complete -F _oci_complete COMMANDS
"""

ZSH = r"""#compdef COMMANDS
_oci_complete() {
    local line
    local -a plain
    for line in "${(@f)$(_OCI_COMPLETE=1 ${(Q)words[1]} "${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}"; do
        case $line in
        :files) [[ $PREFIX == -*=* ]] && compset -P '*='; _files ;;
        :directories) [[ $PREFIX == -*=* ]] && compset -P '*='; _files -/ ;;
        *$'\t'*) plain+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
        ?*) plain+=("${line//:/\\:}") ;;
        esac
    done
    (( ! $#plain )) || _describe -t words word plain
}
compdef _oci_complete COMMANDS
"""

FISH = r"""
function __oci_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l start (string match -r '^--[^=]*=' -- $current)
    set -l rest (string replace -r '^--[^=]*=' '' -- $current)
    for line in (env _OCI_COMPLETE=1 $words "$current" 2>/dev/null)
        switch $line
            case :files
                string replace -r '^' -- "$start" (__fish_complete_path $rest)
            case :directories
                string replace -r '^' -- "$start" (__fish_complete_directories $rest '')
            case '*'
                echo $line
        end
    end
end
for each in COMMANDS
    complete -c $each -f -a '(__oci_complete)'
end
"""


def script(shell: str) -> str:
    """What a shell loads; a Usage where it is none of the three."""
    text = {"bash": BASH, "zsh": ZSH, "fish": FISH}.get(shell)
    if text is None:
        raise Usage("unknown shell", shell, hint="one of bash, zsh, fish")
    return text.replace("COMMANDS", COMMANDS).strip()


def show(args: Args) -> None:
    print(script(args.shell))
