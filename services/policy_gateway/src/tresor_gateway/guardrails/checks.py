"""Values that prove themselves: check digits, assigned ranges and lengths."""

from __future__ import annotations

import ipaddress
import string
from typing import Final

# Length of an IBAN by country (ISO 13616 registry of SWIFT).
IBAN_LENGTHS: Final = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22,
    "BI": 27, "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27,
    "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27,
    "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28,
    "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28,
    "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22,
    "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23,
    "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24,
    "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28,
    "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip
_LETTER_VALUES: Final = {ord(letter): str(ord(letter) - 55) for letter in string.ascii_uppercase}
# What a doubled digit counts: 0 2 4 6 8 1 3 5 7 9.
_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")

# Country calling codes that ITU has assigned (E.164).
_ONE: Final = frozenset({"1", "7"})
_TWO: Final = frozenset(
    map(
        str,
        (
            20,
            27,
            30,
            31,
            32,
            33,
            34,
            36,
            39,
            40,
            41,
            43,
            44,
            45,
            46,
            47,
            48,
            49,
            51,
            52,
            53,
            54,
            55,
            56,
            57,
            58,
            60,
            61,
            62,
            63,
            64,
            65,
            66,
            81,
            82,
            84,
            86,
            90,
            91,
            92,
            93,
            94,
            95,
            98,
        ),
    )
)
_THREE_DECADES: Final = frozenset(
    map(
        str,
        (
            21,
            22,
            23,
            24,
            25,
            26,
            29,
            35,
            37,
            38,
            42,
            50,
            59,
            67,
            68,
            69,
            80,
            85,
            87,
            88,
            96,
            97,
            99,
        ),
    )
)
MIN_PHONE_DIGITS: Final = 7
MAX_PHONE_DIGITS: Final = 15


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of ISO/IEC 7812."""
    data = digits.encode("ascii")
    total = sum(data[-1::-2]) + sum(data[-2::-2].translate(_DOUBLED))
    return (total - ord("0") * len(data)) % 10 == 0


def card(digits: str) -> bool:
    """Whether this is a payment card number: a known range, its length, and the check digit."""
    return len(digits) in _card_lengths(digits) and luhn(digits)


def _card_lengths(digits: str) -> tuple[int, ...] | range:
    first, two, four = digits[0], digits[:2], int(digits[:4])
    if first == "4":
        return (13, 16, 19)
    if "51" <= two <= "55" or 2221 <= four <= 2720 or two in ("34", "37"):
        return (15,) if first == "3" else (16,)
    if two in ("36", "38", "39") or 3000 <= four <= 3059:
        return range(14, 20)
    if 3528 <= four <= 3589 or two in ("62", "65") or four == 6011 or 6440 <= four <= 6499:
        return range(16, 20)
    if two in ("50", "56", "57", "58", "60", "63", "67", "68", "69"):
        return range(13, 20)
    return ()


def iban(value: str) -> bool:
    """Whether upper-case letters and digits form an IBAN: length of its country and mod 97."""
    if IBAN_LENGTHS.get(value[:2]) != len(value):
        return False
    turned = value[4:] + value[:4]
    return int(turned.translate(_LETTER_VALUES)) % 97 == 1


def calling_code(digits: str) -> int:
    """How many leading digits are an assigned country calling code; 0 for none."""
    if digits[:1] in _ONE:
        return 1
    if digits[:2] in _TWO:
        return 2
    return 3 if digits[:2] in _THREE_DECADES and len(digits) > 3 else 0


def international_phone(digits: str) -> bool:
    """Whether digits behind ``+`` or ``00`` can be a number by E.164."""
    return MIN_PHONE_DIGITS <= len(digits) <= MAX_PHONE_DIGITS and calling_code(digits) > 0


def national_phone(groups: list[str]) -> bool:
    """Whether groups of digits that begin with one 0 are a number as it is written at home."""
    digits = "".join(groups)
    if not 9 <= len(digits) <= 13 or digits[1:2] in ("", "0"):
        return False
    if digits[1] == "1":
        # Mobile (015x, 016x, 017x) and service numbers; otherwise 01 begins dates and counters.
        return digits[2:3] in ("5", "6", "7", "8", "9") and len(groups[0]) >= 4
    return len(groups[0]) >= 3


def north_american_phone(groups: list[str]) -> bool:
    """Whether three groups are area, exchange and line of the North American plan."""
    return [len(group) for group in groups] == [3, 3, 4] and all(
        group[0] >= "2" and group[1:] != "11" for group in groups[:2]
    )


def ipv4(value: str) -> bool:
    """Whether this is an address of a machine (not of nobody, and not of oneself)."""
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def ipv6(value: str) -> bool:
    """The same for IPv6; words such as ``ab::cd`` in source code are not addresses."""
    try:
        address = ipaddress.IPv6Address(value)
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified:
        return False
    groups = [group for group in value.split(":") if group]
    return len(groups) >= 3 or any(char.isdigit() for char in value)
