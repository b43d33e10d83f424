"""The part of a completion script that offers names: targets, kernel families, policies, patterns, modes of tuning.

The script asks `tesa list` for them when they are first wanted and keeps them while the shell lives: a shell starts
as fast as without, and what a new release brings needs no new script.
"""

from __future__ import annotations

from argparse import Action

_OPTIONS = {
    "--target": "targets", "--mode": "modes", "--family": "families", "--pattern": "patterns", "--impose": "levels",
    "--level": "levels",
}  # fmt: skip
"""The names that each option takes. A pattern is "block=4x4", a level has its share in front: "0.9:block=4x4"."""

_KINDS = {
    "targets": ("targets", "name"), "modes": ("modes", "name"), "families": ("families policies", "name"),
    "patterns": ("patterns", "example"), "levels": ("patterns", "example"),
}  # fmt: skip
"""The lists of `tesa list` that have the names, and the field that holds them."""

_KNOWN = r"""
_tesa_known() {  # the lists, the field of their entries; answers into _tesa_found
  local kind key="_tesa_known_${1// /_}"
  eval "_tesa_found=\"\${$key}\""
  if [ -z "$_tesa_found" ]; then
    for kind in $(echo $1); do
      _tesa_found="$_tesa_found
$("${_tesa_program:-tesa}" list $kind --json 2>/dev/null | sed -n "s/^ *\"$2\": \"\(..*\)\".*/\1/p")"
    done
    eval "$key=\"\$_tesa_found\""
  fi
}
"""

# A level that is begun as 0.8: keeps its share.
_BASH = r"""
_tesa_offer() { compgen -W "$_tesa_found" -- "$1"; }
_tesa_level() {
  local share=""
  [[ "$1" =~ ^[0-9.]+: ]] && share="${BASH_REMATCH[0]}"
  [[ -z "$share" ]] || _tesa_found="$(sed "s/^[0-9.]*:/$share/" <<< "$_tesa_found")"
}
"""

_BASH_END = r"""
# bash takes x86:haswell and --target=x86 for three words. Here the first is put together, the second taken apart, and
# what the line has already is taken off the answers.
_tesa() {
  local _tesa_program="${COMP_WORDS[0]}" line="${COMP_LINE:0:COMP_POINT}" before="" breaks=""
  local word="${line##*[[:space:]]}"
  if [[ "$word" == *[:=]* ]]; then
    line="${line%"$word"}"
    [[ "$word" == --*=* ]] && line="$line${word%%=*} " && word="${word#*=}"
    local COMP_WORDS COMP_CWORD
    read -ra COMP_WORDS <<< "$line"
    COMP_WORDS+=("$word")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    [[ "$COMP_WORDBREAKS" == *:* ]] && breaks=":"
    [[ "$COMP_WORDBREAKS" == *=* ]] && breaks="$breaks="
    [[ -n "$breaks" ]] && before="${word%"${word##*[$breaks]}"}"
  fi
  local _tesa_found  # asked for here: shtab's function runs the others in a subshell, which forgets
  case "${COMP_WORDS[COMP_CWORD - 1]}" in
CASES
  esac
  _shtab_tesa
  [[ -z "$before" ]] || COMPREPLY=("${COMPREPLY[@]#"$before"}")
}
complete -o bashdefault -F _tesa tesa
"""

_ZSH = r"""
_tesa_offer() { compadd -- ${(f)_tesa_found}; }
_tesa_level() {
  [[ "$PREFIX" == [0-9.]*:* ]] || return 0
  compset -P 1 '*:'
  _tesa_found="$(print -r -- "$_tesa_found" | sed 's/^[0-9.]*://')"
}
"""


def names_of(action: Action) -> dict[str, str] | None:
    """The functions of the scripts that offer the names an option takes, by shell; None where it takes no names."""
    kind = next((_OPTIONS[word] for word in action.option_strings if word in _OPTIONS), None)
    if kind is None or action.nargs == 0 or action.choices is not None:
        return None
    return dict.fromkeys(("bash", "zsh"), f"_tesa_{kind}")


def ending() -> str:
    """The end of bash's script: the function that takes the place of shtab's."""
    cases = [f'    {option}) _tesa_known "{_KINDS[kind][0]}" {_KINDS[kind][1]} ;;' for option, kind in _OPTIONS.items()]
    return _BASH_END.replace("CASES", "\n".join(cases))


def functions(shell: str) -> str:
    """The functions of names_of, for bash or zsh."""
    text = [_KNOWN, _BASH if shell == "bash" else _ZSH]
    for kind, (lists, field) in _KINDS.items():
        steps = [f'_tesa_known "{lists}" {field}']
        if kind == "patterns":
            steps.append('_tesa_found="$(echo "$_tesa_found" | sed \'s/^[0-9.]*://\')"')
        if kind == "levels":
            steps.append('_tesa_level "$1"')
        text.append(f'_tesa_{kind}() {{ local _tesa_found; {"; ".join(steps)}; _tesa_offer "$1"; }}')
    return "\n".join(text)
