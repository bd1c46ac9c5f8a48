#include "agent/cli/completion.h"

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "agent/cli/command.h"

namespace drover {
namespace {

// A word in single quotes, for any of the shells.
std::string Quote(const std::string& text, const char* escaped_quote) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", escaped_quote}}), "'");
}

std::vector<FlagSpec> FlagsOf(const CommandSpec& command) {
  std::vector<FlagSpec> flags = command.flags;
  for (const FlagSpec& flag : GlobalFlags()) flags.push_back(flag);
  return flags;
}

std::string FlagWords(const std::vector<FlagSpec>& flags) {
  std::vector<std::string> words;
  for (const FlagSpec& flag : flags) words.push_back("--" + flag.name);
  return absl::StrJoin(words, " ");
}

// The second words of the commands that begin with `first`.
std::vector<const CommandSpec*> Under(const std::string& first) {
  std::vector<const CommandSpec*> out;
  for (const CommandSpec& command : Commands())
    if (command.words.rfind(first + " ", 0) == 0) out.push_back(&command);
  return out;
}

std::string LastWord(const CommandSpec& command) {
  return command.words.substr(command.words.rfind(' ') + 1);
}

std::string VmVerbs() {
  std::vector<std::string> verbs;
  for (const CommandSpec* command : Under("vm")) verbs.push_back(LastWord(*command));
  return absl::StrJoin(verbs, " ");
}

std::string BashCases() {
  std::string cases;
  for (const CommandSpec& command : Commands())
    absl::StrAppend(&cases, "    '", command.words, "') flags='", FlagWords(FlagsOf(command)),
                    "' ;;\n");
  return cases;
}

// A line for each option with choices; the same name has the same ones everywhere.
std::string BashChoices() {
  std::map<std::string, std::string> choices;
  for (const CommandSpec& command : Commands())
    for (const FlagSpec& flag : command.flags)
      if (!flag.choices.empty()) choices[flag.name] = flag.choices;
  std::string cases;
  for (const auto& [name, words] : choices)
    absl::StrAppend(&cases, "    --", name, ") COMPREPLY=($(compgen -W '", words,
                    "' -- \"$cur\")); return ;;\n");
  return cases;
}

constexpr char kBash[] = R"sh(# bash completion for drover: source <(drover completion bash)
_drover() {
  local cur prev flags='@GLOBALS@'
  cur=${COMP_WORDS[COMP_CWORD]}
  prev=${COMP_WORDS[COMP_CWORD-1]}
  case $prev in
    -o|--output) COMPREPLY=($(compgen -W 'table json id' -- "$cur")); return ;;
    --kernel|--initrd) COMPREPLY=($(compgen -f -- "$cur")); return ;;
@CHOICES@  esac
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W 'host vm completion help --help --version' -- "$cur")); return
  fi
  if ((COMP_CWORD == 2)); then
    case ${COMP_WORDS[1]} in
      vm) COMPREPLY=($(compgen -W '@VERBS@ --help' -- "$cur")); return ;;
      completion) COMPREPLY=($(compgen -W 'bash zsh fish' -- "$cur")); return ;;
    esac
  fi
  case "${COMP_WORDS[1]} ${COMP_WORDS[2]}" in
@CASES@  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$cur"))
  elif [[ ${COMP_WORDS[1]} == vm && ${COMP_WORDS[2]} != create && ${COMP_WORDS[2]} != list ]]; then
    COMPREPLY=($(compgen -W "$(drover vm list -o id 2>/dev/null)" -- "$cur"))
  fi
}
complete -F _drover drover
)sh";

constexpr char kZsh[] = R"sh(#compdef drover
# zsh completion for drover: drover completion zsh >"${fpath[1]}/_drover"
_drover_ids() {
  local -a ids
  ids=(${(f)"$(drover vm list -o id 2>/dev/null)"})
  compadd -a ids
}
_drover() {
  local -a commands verbs
  commands=('host:Shows the host' 'vm:Virtual machines' 'completion:Prints a completion script')
  verbs=(
@VERBS@  )
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  if ((CURRENT == 3)); then
    case $words[2] in
      vm) _describe verb verbs; return ;;
      completion) compadd bash zsh fish; return ;;
    esac
  fi
  case "$words[2] $words[3]" in
@CASES@  esac
}
if [[ ${funcstack[1]} == _drover ]]; then _drover "$@"; else compdef _drover drover; fi
)sh";

// An _arguments specification; '[', ']' and ':' have a meaning in it.
std::string ZshFlag(const FlagSpec& flag) {
  const std::string help =
      absl::StrReplaceAll(flag.help, {{"[", "("}, {"]", ")"}, {":", ";"}, {"'", ""}});
  std::string spec = absl::StrCat("--", flag.name, flag.value.empty() ? "" : "=", "[", help, "]");
  if (!flag.choices.empty())
    absl::StrAppend(&spec, ":", flag.name, ":(", flag.choices, ")");
  else if (flag.value == "FILE")
    absl::StrAppend(&spec, ":file:_files");
  else if (!flag.value.empty())
    absl::StrAppend(&spec, ":", flag.name, ":");
  return Quote(spec, "'\\''");
}

std::string ZshCases() {
  std::string cases;
  for (const CommandSpec& command : Commands()) {
    std::vector<std::string> specs;
    for (const FlagSpec& flag : FlagsOf(command)) specs.push_back(ZshFlag(flag));
    if (command.arguments == "ID" && command.words != "vm create")
      specs.push_back("'*:id:_drover_ids'");
    const std::string pattern = Quote(command.words, "'\\''") + "*";
    absl::StrAppend(&cases, "    ", pattern, ") _arguments ", absl::StrJoin(specs, " "), " ;;\n");
  }
  return cases;
}

std::string ZshVerbs() {
  std::string verbs;
  for (const CommandSpec* command : Under("vm"))
    absl::StrAppend(&verbs, "    ",
                    Quote(absl::StrCat(LastWord(*command), ":",
                                       absl::StrReplaceAll(command->summary, {{":", ";"}})),
                          "'\\''"),
                    "\n");
  return verbs;
}

std::string FishFlags(const CommandSpec& command, const std::string& condition) {
  std::string lines;
  for (const FlagSpec& flag : FlagsOf(command)) {
    absl::StrAppend(&lines, "complete -c drover -n '", condition, "' -l ", flag.name);
    if (flag.letter != 0) absl::StrAppend(&lines, " -s ", std::string(1, flag.letter));
    if (!flag.value.empty()) absl::StrAppend(&lines, flag.value == "FILE" ? " -rF" : " -x");
    if (!flag.choices.empty()) absl::StrAppend(&lines, " -a '", flag.choices, "'");
    absl::StrAppend(&lines, " -d ", Quote(flag.help, "\\'"), "\n");
  }
  return lines;
}

std::string FishScript() {
  std::string script =
      "# fish completion for drover: drover completion fish | source\n"
      "complete -c drover -f\n"
      "complete -c drover -n __fish_use_subcommand -a host -d 'Shows the host'\n"
      "complete -c drover -n __fish_use_subcommand -a vm -d 'Virtual machines'\n"
      "complete -c drover -n __fish_use_subcommand -a completion -d 'Prints a completion script'\n"
      "complete -c drover -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n";
  const std::string no_verb = absl::StrCat(
      "__fish_seen_subcommand_from vm; and not __fish_seen_subcommand_from ", VmVerbs());
  for (const CommandSpec& command : Commands()) {
    const std::string word = LastWord(command);
    if (command.words.rfind("vm ", 0) != 0) {
      absl::StrAppend(&script, FishFlags(command, "__fish_seen_subcommand_from " + word));
      continue;
    }
    const std::string here =
        absl::StrCat("__fish_seen_subcommand_from vm; and __fish_seen_subcommand_from ", word);
    absl::StrAppend(&script, "complete -c drover -n '", no_verb, "' -a ", word, " -d ",
                    Quote(command.summary, "\\'"), "\n", FishFlags(command, here));
    if (command.arguments == "ID" && word != "create")
      absl::StrAppend(&script, "complete -c drover -n '", here,
                      "' -a '(drover vm list -o id 2>/dev/null)'\n");
  }
  return script;
}

}  // namespace

absl::StatusOr<std::string> CompletionScript(const std::string& shell) {
  if (shell == "bash")
    return absl::StrReplaceAll(kBash, {{"@GLOBALS@", FlagWords(GlobalFlags())},
                                       {"@VERBS@", VmVerbs()},
                                       {"@CHOICES@", BashChoices()},
                                       {"@CASES@", BashCases()}});
  if (shell == "zsh")
    return absl::StrReplaceAll(kZsh, {{"@VERBS@", ZshVerbs()}, {"@CASES@", ZshCases()}});
  if (shell == "fish") return FishScript();
  return absl::InvalidArgumentError(
      absl::StrCat("no completion for \"", shell, "\"; there is bash, zsh and fish"));
}

}  // namespace drover
