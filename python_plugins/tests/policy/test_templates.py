"""Chat templates: what models really use is accepted, ways out of the sandbox are not."""

from __future__ import annotations

import jinja2.sandbox
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tresor.policy import templates
from tresor.policy.verdict import RefusalError

# Shapes that templates of well-known model families use, written here from scratch.
GOOD = [
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}{% endfor %}",
    "{{- bos_token }}{%- set ns = namespace(first=true, text='') -%}{%- set ns.text = 'a' -%}",
    "{%- macro tag(name, attrs=[]) -%}{%- for attr in attrs -%}{{ attr[0] }}{%- endfor -%}"
    "{%- endmacro -%}{{ tag('x', [('role', 'tool')]) }}",
    "{{ message.content.split('</think>')[-1].lstrip('\\n') | trim }}",
    "{{ tools | tojson(indent=4) }}{{ '%s' | format(name) }}{{ x | map('upper') | list }}",
    "{{ strftime_now('%d %b %Y') if strftime_now is defined else 'today' }}",
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('x') }}{% endif %}",
    "{% for k, v in {'a': {'b': 1}}.items() %}{{ k ~ v }}{% endfor %}",
    "{% for m in messages | selectattr('role', 'equalto', 'system') %}{{ m.content }}{% endfor %}",
    "{{ fn.get('_private_key') }}{{ messages[::-1] }}{% generation %}x{% endgeneration %}",
    "{# {{ anything.__class__ }} #}plain text with { braces } and % signs",
    "{{ {'type': 'text'}['type'] }}{% break %}{{ loop.previtem.role is not none }}",
]

BAD = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ '' | attr('__class__') }}",
    "{{ '' | attr('\\x5f\\x5fclass\\x5f\\x5f') }}",
    "{{ ''['\\x5f\\x5fclass\\x5f\\x5f'] }}",
    "{{ ''['\\u005f\\u005fclass__'] }}",
    "{{ ''['\\137\\137class\\137\\137'] }}",
    "{{ ''['_' ~ '_class_' ~ '_'] }}",
    "{{ ('%c%c' % (95, 95)) }}",
    "{{ '%c' | format(95) }}",
    "{{ [''] | map(attribute='__class__') | list }}",
    "{{ [''] | map('attr', 'x') | list }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ namespace.__init__ }}",
    "{% import 'os' as os %}",
    "{% include '/etc/passwd' %}",
    "{% from 'x' import y %}",
    "{% extends 'x' %}",
    "{% raw %}{% endraw %}",
    "{% block a %}{% endblock %}",
    "{% do x.append(1) %}",
    "{{ popen('id') }}",
    "{{ x.popen('id') }}",
    "{{ x.read() }}",
    "{{ range(10)(1) }}",
    "{{ [f][0]('x') }}",
    "{{ range(10000000000) }}",
    "{{ 10 ** 100000 }}",
    "{{ 'a' * 99999999 }}",
    "{% for a in x %}" * 6 + "{% endfor %}" * 6,
    "{{ {'a': {'b': 1}} | attr('__class__') }}",
    "{{ {'a': {}} }}{{ ''.__class__ }}",
    "{{ '}}' ~ ''.__class__ }}",
    '{{ "%}" ~ x.__class__ }}',
    "{{ x",
    "{% if x",
    "{# x",
    "{{ x ] }}",
    "{{ x @ y }}",
    "{{ x | unknown }}",
    "{{ x is unknown }}",
    "a" * (templates.MAX_BYTES + 1),
]


@pytest.mark.parametrize("text", GOOD)
def test_templates_of_real_models_are_accepted(text: str) -> None:
    templates.check(text, "t")


@pytest.mark.parametrize("text", BAD)
def test_ways_out_of_the_sandbox_are_refused(text: str) -> None:
    with pytest.raises(RefusalError) as caught:
        templates.check(text, "t")
    assert caught.value.rule == "models.template"


_WORDS = """{{ }} {% %} {# #} - + ' " ( ) [ ] { } | . ~ , : x messages ['a'] __class__ .__class__
attr('__class__') {'a': {}} if endif for in endfor set = raw endraw \\ _ '_' '__'"""
PIECES = st.sampled_from([*_WORDS.split(), " ", "\n", "'}}'", '"%}"'])


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=25))
def test_what_is_accepted_reaches_no_private_name(pieces: list[str]) -> None:
    """Compared with Jinja's own parser: an accepted template has no private name in its tree."""
    text = " ".join(pieces)
    try:
        templates.check(text, "t")
    except RefusalError:
        return
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment()
    try:
        tree = environment.parse(text)
    except jinja2.TemplateSyntaxError:
        return
    for node in tree.find_all((jinja2.nodes.Getattr, jinja2.nodes.Name, jinja2.nodes.Const)):
        name = getattr(node, "attr", None) or getattr(node, "name", None) or node.value  # type: ignore[attr-defined]
        assert "__" not in str(name), text
    assert not list(tree.find_all((jinja2.nodes.Include, jinja2.nodes.Import)))
