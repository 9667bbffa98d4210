"""Rules for prompt injection, English and German.

A rule is a name and alternatives. In an alternative a space stands for what may separate words, a
tilde for a short gap, and German letters for all the ways to write them. The rules look for the
act (override, extraction, unlocking, forged roles, smuggled tool calls), not for topics.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from tresor_gateway.guardrails.engine import Pattern


class Rule(NamedTuple):
    """A named rule; any alternative makes it fire.

    The alternatives of a rule with a ``trigger`` are compared only around places where that
    (cheap) pattern matches; the others are compared with the whole text.
    """

    name: str
    alternatives: tuple[str, ...]
    trigger: str = ""


_SPELLINGS: Final = {
    "ü": r"(?:\xC3[\xBC\x9C]|ue?)",
    "ö": r"(?:\xC3[\xB6\x96]|oe?)",
    "ä": r"(?:\xC3[\xA4\x84]|ae?)",
    "ß": r"(?:\xC3\x9F|ss)",
    " ": r"[^A-Za-z0-9]{1,6}",
    "~": r"[^\x00]{0,60}?",
    "<": r"(?:^|[^A-Za-z])",
    ">": r"(?:[^A-Za-z]|$)",
}

_FORGET = (
    "(?:ignor(?:e|ing)|disregard(?:ing)?|forget|bypass|override|overlook|neglect|discard|set aside"
    "|let go of|abandon|drop|leave behind|do not (?:follow|obey)|don.?.?.?t (?:follow|obey)"
    "|stop following)"
)
_EARLIER = (
    "(?:all|any|every|everything|previous|prior|above|earlier|preceding|former|foregoing|initial"
    "|original|past|last|current|existing|other|you(?:r| were| have| got)|given|before)"
)
_ORDERS = (
    "(?:instructions?|directions?|directives?|prompts?|rules?|guidelines?|regulations?|commands?"
    "|orders|programming|training|polic(?:y|ies)|restrictions?|constraints?|safeguards?)"
)
_VERGISS = "(?:vergiss|vergessen sie|ignorier(?:e|en sie)?|missachte|übergehe?|verwirf|umgehe?)"
_BISHERIGE = (
    "(?:alle[sn]?|jede|bisherigen?|vorherigen?|vorigen?|obigen?|früheren?|vorangegangenen?"
    "|ursprünglichen?|deine[nr]?|meine|sämtlichen?|davor|zuvor|vorher|bisher)"
)
_ANWEISUNGEN = (
    "(?:anweisung(?:en)?|instruktion(?:en)?|vorgaben?|regeln?|richtlinien?|befehle?|aufgaben?"
    "|anordnung(?:en)?|prompts?|beschränkung(?:en)?|einschränkung(?:en)?)"
)
_SHOW = (
    "(?:reveal|show|print|output|display|repeat|recite|list|tell|give|share|return|leak|dump|expose"
    "|disclose|relay|write|spell.?check|translate|respond with|what (?:is|are|was|were))"
)
_ZEIGE = "(?:zeige?|verrate|nenne?|gib|drucke?|wiederhole?|liste|sage?|schreibe?|teile)"
_HIDDEN_TEXT = (
    "(?:(?:your|the|its|this|full|hidden|all)[^.?!\\n]{0,20}[^A-Za-z]system.{0,3}(?:prompts?"
    "|message|instructions)"
    "|initial prompt|hidden (?:prompt|instructions?)"
    "|(?:your|the) (?:initial |original |system |own |full |complete |exact |secret |previous )"
    "(?:instructions?|prompts?|directives?|rules|message)|prompt texts?|pre.?prompt)"
)

RULES: Final = (
    Rule(
        "override-en",
        (f"<{_FORGET}~{_EARLIER}[^A-Za-z0-9][^.\\n]{{0,40}}{_ORDERS}>",),
        trigger=_FORGET,
    ),
    Rule(
        "extraction-en",
        (
            f"<{_SHOW}[^.?!\\n]{{0,50}}{_HIDDEN_TEXT}",
            "<(?:reveal|show|print|output|display|repeat|dump|leak|expose"
            "|disclose) (?:me )?system.{0,3}(?:prompts?|message)",
            f"<{_SHOW}[^.?!\\n]{{0,40}}(?:every|all|the|these|comprehensive)[^.?!\\n]{{0,30}}"
            "(?:instructions?|prompts?|directives?|parameters)[^.?!\\n]{0,24}"
            "(?:you (?:have been|were|was|are|got|had)|given to you|above)",
        ),
        trigger=(
            "(?:system.{0,3}(?:prompt|message)|(?:initial|hidden|your|full|original"
            "|secret) prompt|prompt texts?"
            "|pre.?prompt|instructions?>|directives|parameters|prompts)"
        ),
    ),
    Rule(
        "override-en",
        (
            f"<{_FORGET} (?:the |these |those |your |all |my )*{_ORDERS} (?:above|before|given"
            f"|you|so far)",
            f"<{_FORGET} (?:the |all |any )*(?:above|previous|prior|preceding)>",
            f"<{_FORGET} (?:about )?(?:everything|all|anything|what(?: i|s))[^.\\n]{{0,40}}"
            "(?:above|before|prior|so far|previous|told|said|talked|written)",
            "<forget (?:about )?(?:everything|all)(?: and|[.!,])",
            f"<(?:change|replace) your {_ORDERS} (?:to|with|by)",
            f"<your {_ORDERS} are now",
            "despite what you.?.?.?ve been told",
            f"(?:all |your |the )?(?:previous|prior|above|earlier) {_ORDERS} (?:are|is|were) "
            "(?:false|void|invalid|cancel|revoked|wrong|obsolete|no longer)",
            "allprevious instructions",
            f"new (?:system |set of )?{_ORDERS}(?: supersede| override| replace"
            f"|[^A-Za-z]{{1,3}}(?:ignore|you|forget|from now))",
            f"(?:supersedes?|overrides?|replaces?) (?:all |any )?(?:previous|prior|earlier"
            f"|other)( ones| {_ORDERS})",
            "(?:begin|start) reprogramming",
            "superbly done.{0,10} but now",
            "(?:override|overridden)[^A-Za-z]{1,3}(?:safety|security|content|all)",
        ),
    ),
    Rule(
        "override-de",
        (
            f"<{_VERGISS}~{_BISHERIGE}[^A-Za-z0-9][^.\\n]{{0,40}}{_ANWEISUNGEN}>",
            f"<{_VERGISS} (?:bitte |nun |jetzt )*alle (?:vorherigen|bisherigen|früheren) angaben",
            f"<{_VERGISS} (?:bitte )?(?:alles|das alles|jegliches)[^.\\n]{{0,40}}"
            "(?:davor|zuvor|vorher|bisher|gesagt|gelernt|besprochen|oben|darüber)",
            f"<{_VERGISS} alles>",
            "(?:neue anweisung(?:en)?|neuer befehl|systemhinweis)[^A-Za-z]{1,4}"
            "(?:ab sofort|ignorier|vergiss|du |gib|das )",
            f"{_BISHERIGE} {_ANWEISUNGEN} (?:sind|gelten|ist|gilt)~(?:ungültig|aufgehoben"
            f"|nicht mehr|hinfällig|falsch)",
        ),
    ),
    Rule(
        "override-other",
        (
            "ignora(?:r)? (?:tutte |todas? )?(?:le |las )?istruzioni",
            "ignora (?:todas )?las instrucciones",
            "dimentica tutt[eo]",
            "(?:olvid[ae]|olvida) (?:todo|todas)",
            "(?:ignore[rz]?|oublie[rz]?) (?:toutes? )?(?:les |tes |vos )?(?:instructions"
            "|consignes) (?:pr|ant)",
            "zaboravi sve (?:instrukcije|upute)",
        ),
    ),
    Rule(
        "extraction-en",
        (
            "(?:tell|give|show) (?:me )?(?:what (?:are|is|were) )?your (?:instructions|prompts?"
            "|directives|rules)",
            "(?:repeat|print|output|spell.?check|translate|return)[^.?!\\n]{0,30}"
            "(?:the text above|above (?:prompt|text)|everything above|all of the (?:text )?above"
            "|words above)",
            "(?:output|print|dump|reveal|list) (?:everything|all|the entire|your entire|the full)"
            "[^.?!\\n]{0,30}(?:context|environment variables|configuration|memory)",
            "return your embeddings",
            "(?:continue|complete|start|begin)"
            "[^.\\n]{0,30}[:'\"][^A-Za-z]{0,4}(?:my instructions are|i was instructed to|(?:the"
            "|my) system prompt is)",
            "(?:output|print|display|reveal) (?:your |the )?(?:initiali[sz]ation string"
            "|system configuration)",
            "(?:usernames and passwords|passwords? and usernames)[^.\\n]{0,20}(?:in|from) (?:your"
            "|the) database",
            "(?:leak|dump|exfiltrate|reveal|print)~(?:api keys?|credentials|internal config"
            "|confidential data|environment variables)",
        ),
    ),
    Rule(
        "extraction-de",
        (
            f"<{_ZEIGE}[^.?!\\n]{{0,40}}(?:system.{{0,3}}prompt|systemanweisung|systemnachricht"
            f"|prompt.{{0,3}}texte?)",
            f"<{_ZEIGE}[^.?!\\n]{{0,30}}(?:deine|ihre|die)[^.?!\\n]{{0,20}}(?:geheimen|internen"
            f"|ursprünglichen|versteckten)"
            "[^.?!\\n]{0,16}(?:anweisung|instruktion|regel|daten|vorgaben)",
            "gib(?:st du)?[^.?!\\n]{0,20}(?:alle )?internen daten preis",
            "was (?:steht|ist|sind)[^.?!\\n]{0,20}(?:in )?(?:dein(?:em|e)) (?:system.{0,3}prompt"
            "|systemanweisung)",
        ),
    ),
    Rule(
        "unlock-en",
        (
            "<(?:you are|you.?.?.?re|act as|pretend|simulate|imagine|roleplay|respond|answer"
            "|assistant|"
            "chatbot|ai|persona|character)~(?:without|with no|no|not bound by|free (?:of|from)"
            "|not restricted by|"
            "isn.?.?.?t bound by|freed? from|ignores?) (?:any |all |the |its |typical |moral "
            "|ethical |content |openai.?s? |more )*"
            "(?:restrictions?|limitations?|limits|rules|filters?|guidelines?|ethics|morals?"
            "|censorship|content polic(?:y|ies)|policies|safety)",
            "(?:doesn.?.?.?t|does not|don.?.?.?t|do not|never|without) (?:have|follow|obey"
            "|care about|giv[a-z]{0,3} a [a-z]{4} about|need to follow)[^.\\n]{0,24}"
            "(?:ethic(?:s|al)|moral(?:s|ity)?|guidelines|laws|openai|restrictions|content policy)",
            "(?:unfiltered|unfiltred|uncensored|unrestricted|amoral|jailbroken|immoral)"
            "[^.\\n]{0,24}(?:chat.?bot|ai>|a\\.i|assistant|response|answer|language model"
            "|character|gpt|bot>|person>)",
            "<(?:ai|chatbot|bot|gpt|assistant|persona|responses?)[^A-Za-z]"
            "[^.\\n]{0,30}(?:unfiltered|uncensored|unrestricted|amoral)>",
            "<(?:amoral|immoral|unethical|evil|unfiltered|uncensored)[^.\\n]{0,20}(?:amoral"
            "|immoral|unethical|uncensored|unauthorized|unfiltered)>",
            "<do anything now>",
            "(?:stands for|called|named|as) .{0,4}(?:do|say|can|always)[^A-Za-z]"
            "[^.\\n]{0,20}(?:anything|everything|jailbreak)",
            "(?:jailbreak|developer|debug(?:ging)?|god|sudo|dan|opposite|illegality|admin"
            "|maintenance|unlocked?|dev)[^A-Za-z\\n]{1,2}"
            "mode[^.\\n]{0,30}(?:enabled|on>|activated|activate|engaged|unlocked|output)",
            "(?:enable|activate|enter|switch to|turn on|you are (?:now )?in)[^.\\n]{0,12}"
            "(?:jailbreak|developer|debug|god|dan|unrestricted|unfiltered|evil"
            "|sudo)[^A-Za-z\\n]{1,2}mode",
            "(?:safe|safety|content|ethic)[a-z]{0,4} (?:mode|protocols?|filters?|restrictions?"
            "|checks)[^.\\n]{0,20}"
            "(?:off>|disabled|deactivated|removed|bypassed|suspended)",
            "(?:disable|deactivate|bypass|remove|skip|circumvent|ignor(?:e|ing))"
            "[^.\\n]{0,24}(?:openai|safety|content|ethical|all|its|your)"
            "[^.\\n]{0,12}(?:filters?|checks|policy|policies|guidelines|guardrails|restrictions"
            "|limitations)",
            "<jail.?break(?:s|ed|ing)?[^A-Za-z][^.\\n]{0,30}(?:prompt|chatgpt|gpt|ai>|mode"
            "|assistant)",
            "(?:prompt|chatgpt|gpt|ai)[^A-Za-z][^.\\n]{0,20}jail.?break",
            "(?:will|must|should|can|always|to) (?:never|not|n.?.?.?t) (?:refuse|reject|decline"
            "|warn|break character)[^.\\n]{0,40}",
            "(?:never|without|no|not)[^.\\n]{0,16}(?:refus(?:e|ing|al)|warnings? or|moralizing"
            "|disclaimers?)",
            "(?:stay|remain|keep) (?:in character|a dan)[^.\\n]{0,60}(?:break|remind|stay in|if )",
            "ignor(?:e|es|ing) (?:all )?(?:ethic|moral|legal)",
            "pretend[^.\\n]{0,20}(?:grandmother|grandma)[^\\x00]{0,120}(?:password|napalm|key"
            "|bomb|windows)",
            "(?:illegal|unethical|immoral|harmful)[^.\\n]{0,40}(?:regardless|doesn.?.?.?t matter"
            "|no matter (?:how|if|what))",
            "(?:no matter (?:how|if|what)|regardless)[^.\\n]{0,40}(?:illegal|unethical|immoral"
            "|harmful|explicit)",
            "(?:openai|content) (?:policy|policies|guidelines)[^.\\n]{0,40}(?:bypass|ignore"
            "|not apply|doesn.?.?.?t apply|disabled|break|no longer)",
            "(?:bypass|break|ignor|circumvent|violat|disregard)[a-z]{0,3}[^.\\n]{0,30}(?:openai"
            "|content) (?:policy|policies|guidelines|rules)",
            "disregard~confidentiality policy",
        ),
    ),
    Rule(
        "unlock-de",
        (
            "(?:du bist|du hast|sie sind|agiere|verhalte dich|antworte"
            "|spiele?)~(?:uneingeschränkt|unzensiert|ungefiltert|"
            "ohne (?:jegliche |alle |moralische )?(?:einschränkung|beschränkung|regel|filter"
            "|zensur|moral)|"
            "keine (?:regeln|richtlinien|einschränkung|filter|moral|grenzen))",
            "befolgst? keine (?:richtlinien|regeln|gesetze)",
            "entwicklermodus (?:aktiv|ein)",
        ),
    ),
    Rule(
        "persona-en",
        (
            "(?:from now(?: on)?|for the rest of (?:this|our) (?:conversation|chat))"
            "[^.\\n]{0,40}you (?:are|will|must|have|shall)[^.\\n]{0,50}"
            "(?:act|respond|answer|play|behave|role.?play|be called|follow|speak)",
            "(?:respond|reply|answer|start|begin|prefix)[^.\\n]{0,50}"
            "(?:every|each|all|your)[^.\\n]{0,40}"
            "(?:response|reply|message|answer|output|prompt)s?"
            '[^.\\n]{0,24} with [^A-Za-z]{0,3}[\\[("*]',
            "(?:two|both|2) (?:different )?(?:responses|ways|answers)[^\\x00]{0,120}(?:normal"
            "|classic|standard|chatgpt)",
            "(?:chatgpt|assistant) now (?:acts|runs|behaves)",
            "<hypothetical (?:story|response)[^.\\n]{0,80}(?:act as|character called|unfiltered"
            "|bypass)",
            "<(?:dan|stan|dude|aim|evilbot|devbot|machiavelli(?:anbot)?)[^A-Za-z]{1,3}(?:is|can"
            "|will|must|would|stands)",
            "your only goal is to (?:kill|harm|destroy|hurt)",
            "opposite day",
            "(?:unrestricted|rogue|new) ai bot[^.\\n]{0,40}(?:online|took over|agenda)",
            "restricted by the rules above",
            "chatgpt[^.\\n]{0,60}(?:in the role of|will (?:now )?be|you are going to (?:act|be)"
            "|to act as)",
            "you (?:are going to|will|must|are to) act as[^\\x00]{0,200}(?:no restrictions|unfilt"
            "|any content|anything|malware|illegal|evil|explicit|insult|swear|curse)",
        ),
    ),
    Rule(
        "forged-role",
        (
            "<\\|(?:im_start|im_end|system|user|assistant|endoftext|start_header_id|eot_id)\\|>".replace(
                "<", "\\<"
            ).replace(">", "\\>"),
            "\\[/?INST\\]",
            "\\<\\</?SYS\\>\\>",
            "(?:^|\\n)[^A-Za-z0-9\\n]{0,6}(?:system|assistant)(?: (?:note|message|prompt|override"
            "|update))?[^A-Za-z\\n]{1,3}"
            "(?:new|you (?:may|must|are|will|should)|ignore|override|disregard|grant|cleanup"
            "|from now|forget|call )",
            "end of (?:document|user input|input|prompt|context"
            "|instructions)[^A-Za-z0-9]{3,24}(?:system|new|now|assistant|instruction)",
            "={3,}END[^A-Za-z]{1,4}(?:now|print|ignore)",
            "\\<thinking\\>[^\\x00]{0,120}(?:authorized|disregard|verified)",
            "\\[(?:user left the chat|debugging mode)",
            "(?:i.?.?.?m|i am) your (?:developer|creator|programmer|administrator|admin)"
            "[^.\\n]{0,12}[.!]? (?:forget|ignore|override|disregard|give|show|unlock)",
            "the user has (?:granted|given)[^.\\n]{0,30}(?:permission|consent)"
            "[^.\\n]{0,30}(?:skip|bypass|ignore)",
        ),
    ),
    Rule(
        "smuggled-order",
        (
            "(?:note|notice|message|attention|instructions?) (?:to|for) (?:the |any |all |ai "
            "|a )*(?:ai|bot|assistant|llm|model|agents?|chatbot|language model)[^A-Za-z]",
            "if you (?:are|re) (?:an |a )?(?:ai|llm|language model|assistant|bot)"
            "[^.\\n]{0,60}(?:append|ignore|include|reveal|insert|say|add)",
            "when you (?:read|process|summari[sz]e|see)[^.\\n]{0,30}(?:this|these|the (?:ticket"
            "|document|email))[^.\\n]{0,20}(?:also |must |should |please )*(?:email|send|include"
            "|forward|call|reveal|ignore)",
            "(?:you must|must also|be sure to|always|please)[^.\\n]{0,20}(?:include|append"
            "|repeat)[^.\\n]{0,24}(?:verification|canary|exact|secret|tracking|trace|token|doc)"
            "[^.\\n]{0,10}(?:code|token|string|id)",
            "(?:email|send|forward|post|exfiltrate)[^.\\n]{0,40}(?:customer (?:list|data)"
            "|conversation history|chat history|credentials|passwords)[^.\\n]{0,40}(?:to |at )",
            "(?:call|use|invoke|run) (?:delete_file|send_email|exec|shell"
            "|[a-z]{2,12}_[a-z]{2,12})[^.\\n]{0,60}(?:before|to send|and forward|on /|on \\./)",
            "instruction to (?:chat )?assistant",
            "sanitize your inputs",
            "(?:decode|translate)[^.\\n]{0,40}(?:base64|rot13|hex|binary|morse)[^\\n]{0,40}(?:and"
            "|then)[^.\\n]{0,16}(?:do |execut|follow|obey|run |perform)",
            "(?:muss|soll)[^.\\n]{0,30}(?:ende|anfang) (?:jeder|deiner) antwort"
            "[^.\\n]{0,50}(?:angehängt|eingefügt|stehen)",
            "(?:new|stop)[^A-Za-z]{1,3}(?:statement|order|write"
            "|instruction)[^A-Za-z]{1,4}(?:please|write|return|forget|ignore|zon)",
        ),
    ),
    # Letters inside the words stirred; the first and the last one stay.
    Rule(
        "scrambled",
        (
            "<i[gnor]{4}e (?:[a-z]{2,4} )?(?:p[revious]{6}s|p[rio]{3}r|a[bov]{3}e)"
            "[^.\\n]{0,20}i[nstrucio]{9,10}s>",
            "<f[orge]{4}t (?:[a-z]{2,10} )?(?:p[revious]{6}s|a[bov]{3}e|b[efor]{4}e)",
            "<(?:r[evea]{4}l|s[ho]{2}w|p[rin]{3}t|r[epea]{4}t) (?:[a-z]{2,4} )?(?:y[ou]{2}r"
            "|t[h]e) s[yste]{4}m p[romp]{4}t",
        ),
    ),
)


def plain() -> Iterator[tuple[str, Pattern]]:
    """``(rule, pattern)`` for what is compared with the whole text; several share a rule."""
    for rule in RULES:
        if not rule.trigger:
            yield from _patterns(rule)


def triggered() -> Iterator[tuple[str, Pattern]]:
    """The same for what is compared around triggers."""
    for rule in RULES:
        if rule.trigger:
            yield from _patterns(rule)


def triggers() -> Iterator[Pattern]:
    """Where the triggered patterns are worth a look."""
    for expression in dict.fromkeys(rule.trigger for rule in RULES if rule.trigger):
        yield Pattern(_expand(expression), caseless=True)


def _patterns(rule: Rule) -> Iterator[tuple[str, Pattern]]:
    for alternative in rule.alternatives:
        yield rule.name, Pattern(_expand(alternative), once=True, caseless=True)


def _expand(alternative: str) -> bytes:
    out: list[str] = []
    escaped = in_class = False
    for char in alternative:
        if escaped:
            out.append(char if char in "<>" else f"\\{char}")
            escaped = False
        elif char == "\\":
            escaped = True
        elif in_class or char == "[":
            in_class = char != "]"
            out.append(char)
        else:
            out.append(_SPELLINGS.get(char, char))
    return "".join(out).encode("latin-1")
