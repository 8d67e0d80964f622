"""Completion in bash, which takes `main@3` and `main:raw` for several words: here they are one again."""

from click.shell_completion import BashComplete

_SOURCE = """\
%(complete_func)s() {
    local IFS=$' \\t\\n' line="${COMP_LINE:0:$COMP_POINT}" response type value
    local -a words
    read -r -a words <<< "$line"
    [[ $line != *" " ]] || words+=("")
    local last="${words[-1]}" before=""  # what stays of the last word: readline puts in the rest
    case $last in
        *@*) before="${last%%@*}" ;;
        *:*) before="${last%%:*}:" ;;
    esac
    IFS=$'\\n'
    response=$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) %(complete_var)s=bash_complete $1)
    COMPREPLY=()
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$before"}") ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """What `_ANA_COMPLETE=bash_source ana` prints, and what that asks for."""

    source_template = _SOURCE
