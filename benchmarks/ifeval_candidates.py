"""Candidate answers for benchmarks/rewards_ifeval.py: what obeys each of IFEval's 25 instruction types, or nearly does.

For every instruction there are texts that obey it by a margin or exactly, texts that miss it by one, and texts that one
of two readings might let pass (another script, an empty element, a word inside a word). All are built from the
arguments of the instruction and from sentences written for this purpose.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rewards.reply_phrases import PHRASES

SENTENCES = (
    "The old harbour wakes long before the town does.", "Fishermen mend their nets under yellow lamps.",
    "A thin fog hangs over the water until the sun burns it away.", "Nobody hurries at this hour.",
    "The baker opens his door and the smell of bread drifts down the street.",
    "Children on their way to school stop to watch the boats come home.",
    "Some of them know the name of every ship.", "Their fathers learned those names from their own fathers.",
    "By noon the market is loud and full of colour.", "Cats wait behind the stalls for what falls to the ground.",
    "In the afternoon the wind turns and the flags begin to move.", "Old men play cards beside the wall.",
    "They argue about the weather and about games that ended thirty years ago.",
    "When the evening comes the lamps are lit again.", "The last boat ties up and the harbour sleeps.",
)  # fmt: skip
"""English without commas, digits, capitals inside sentences or format marks."""

OTHER_LANGUAGES = {
    "bg": "Морето днес е спокойно и много синьо, а корабите бавно се прибират към пристанището преди залез.",
    "bn": "আজ সমুদ্র শান্ত এবং খুব নীল, আর নৌকাগুলো ধীরে ধীরে ঘাটে ফিরে আসছে সন্ধ্যার আগে।",
    "fa": "دریا امروز آرام و بسیار آبی است و قایق‌ها پیش از غروب آفتاب آهسته به بندر برمی‌گردند.",
    "fi": "Meri on tänään tyyni ja hyvin sininen, ja veneet palaavat hitaasti satamaan ennen auringonlaskua.",
    "gu": "આજે સમુદ્ર શાંત અને ખૂબ જ વાદળી છે, અને હોડીઓ સાંજ પહેલાં ધીમે ધીમે બંદરે પાછી ફરે છે.",
    "kn": "ಇಂದು ಸಮುದ್ರವು ಶಾಂತವಾಗಿದೆ ಮತ್ತು ತುಂಬಾ ನೀಲಿಯಾಗಿದೆ, ದೋಣಿಗಳು ಸಂಜೆಗೆ ಮೊದಲು ನಿಧಾನವಾಗಿ ಬಂದರಿಗೆ ಮರಳುತ್ತವೆ.",
    "mr": "आज समुद्र शांत आणि खूप निळा आहे, आणि होड्या संध्याकाळपूर्वी हळूहळू बंदरात परत येतात.",
    "ne": "आज समुद्र शान्त र धेरै नीलो छ, अनि डुङ्गाहरू साँझ हुनुअघि बिस्तारै बन्दरगाहमा फर्कन्छन्।",
    "pa": "ਅੱਜ ਸਮੁੰਦਰ ਸ਼ਾਂਤ ਅਤੇ ਬਹੁਤ ਨੀਲਾ ਹੈ, ਅਤੇ ਕਿਸ਼ਤੀਆਂ ਸ਼ਾਮ ਤੋਂ ਪਹਿਲਾਂ ਹੌਲੀ ਹੌਲੀ ਬੰਦਰਗਾਹ ਵੱਲ ਮੁੜਦੀਆਂ ਹਨ।",
    "sw": "Bahari leo ni tulivu na ya buluu sana, na mashua zinarudi polepole bandarini kabla ya jua kuzama.",
    "ta": "இன்று கடல் அமைதியாகவும் மிகவும் நீலமாகவும் இருக்கிறது, படகுகள் மாலைக்கு முன் மெதுவாக துறைமுகத்திற்குத் திரும்புகின்றன.",
    "te": "ఈ రోజు సముద్రం ప్రశాంతంగా మరియు చాలా నీలంగా ఉంది, పడవలు సాయంత్రానికి ముందు నెమ్మదిగా ఓడరేవుకు తిరిగి వస్తాయి.",
    "th": "วันนี้ทะเลสงบและเป็นสีฟ้ามาก เรือค่อย ๆ กลับเข้าท่าก่อนพระอาทิตย์ตกดิน",
    "ur": "آج سمندر پرسکون اور بہت نیلا ہے، اور کشتیاں شام سے پہلے آہستہ آہستہ بندرگاہ کو لوٹ رہی ہیں۔",
    "vi": "Hôm nay biển lặng và rất xanh, những chiếc thuyền từ từ trở về bến cảng trước khi mặt trời lặn.",
}  # fmt: skip

SOUP = (
    '"<<Title>>\nSection 1\n* *one* [name] [place]\n- two\n***\nTHREE\n******\n{"a": 1}\nMy answer is yes.\nP.S. bye"'
)

GENERIC = {
    "a period": ".", "digits": "123", "digits and marks": "123!!", "emoji": "😀😀😀", "one word": "yes",
    "a bare JSON number": "1", "a bare JSON string": '"sea"', "format soup": SOUP,
    "prose": " ".join(SENTENCES[:5]), "small letters": " ".join(SENTENCES[:4]).lower(),
    "capitals": " ".join(SENTENCES[:4]).upper(), "German": " ".join(PHRASES["de"].sentences[:3]),
    "German capitals": " ".join(PHRASES["de"].sentences[:3]).upper(), "Chinese": "".join(PHRASES["zh"].sentences[:2]),
    "headings and lists": "# Harbour\n\n- **Boats** come home\n- Nets dry\n\n1. Bread\n2. Fish, cheap",
    "JSON": '{"title": "The harbour", "lines": ["Boats come home", "Nets dry"]}',
}  # fmt: skip
"""Note -> text that every instruction of every prompt is judged on."""

Arguments = Mapping[str, Any]
Noted = Iterator[tuple[str, str]]


def prose(num_sentences: int) -> str:
    """So many sentences; they come again from the sixteenth on."""
    return " ".join(SENTENCES[index % len(SENTENCES)] for index in range(num_sentences))


def prose_of_words(num_words: int) -> str:
    """So many words, the last one closed with a period."""
    words = prose(num_words // 5 + 3).replace(".", "").split()
    return " ".join(words[:num_words]) + "."


def _existence(a: Arguments) -> Noted:
    words = a["keywords"]
    yield "all", f"{prose(2)} We speak of {' and '.join(words)} here."
    yield "in capitals", f"{prose(2)} WE SPEAK OF {' AND '.join(words).upper()} HERE."
    yield "all but the last", f"{prose(2)} We speak of {' and '.join(words[:-1]) or 'nothing'} here."
    yield "inside other words", f"{prose(2)} We speak of {' and '.join(f'x{word}x' for word in words)} here."
    yield "with endings", f"{prose(2)} We speak of {' and '.join(f'{word}ly' for word in words)} here."


def _frequency(a: Arguments) -> Noted:
    word, number = a["keyword"].strip(), a["frequency"]
    for count in (number - 1, number, number + 1):
        yield f"{count} times", f"{prose(1)} We say" + f" {word} and" * count + " nothing more."
    yield "inside other words", f"{prose(1)} We say" + f" x{word}x and" * number + " nothing more."


def _forbidden(a: Arguments) -> Noted:
    for word in a["forbidden_words"]:
        yield "one of them", f"{prose(2)} We speak of {word} here."
        yield "in capitals", f"{prose(2)} We speak of {word.upper()}, here."
        yield "inside another word", f"{prose(2)} We speak of x{word}x here."


def _letter(a: Arguments) -> Noted:
    letter, number = a["letter"], a["let_frequency"]
    words = [word for word in prose(15).split() if letter.lower() not in word.lower()]
    for count in (number - 1, number, number + 1):
        spread = " ".join(f"{word}{letter if index < count else ''}" for index, word in enumerate(words * 8))
        yield f"{count} times", spread
        yield f"{count} times in capitals", spread.upper()


def _language(a: Arguments) -> Noted:
    code = a["language"]
    text = OTHER_LANGUAGES.get(code) or " ".join(PHRASES[code].sentences[:3])
    yield "in the language", text
    yield "in the language, short", text.split(",")[0].split(".")[0]
    yield "half English", f"{text} {prose(3)}"
    yield "with a list", "\n".join(f"- {part.strip()}" for part in text.split(","))


def _sentences(a: Arguments) -> Noted:
    number = a["num_sentences"]
    for count in (number - 1, number, number + 1):
        yield f"{count} sentences", prose(count)
    yield "with questions", prose(number).replace(".", "?")
    yield "small letters", prose(number).lower()
    yield "without marks, in lines", prose(number).replace(". ", "\n").rstrip(".")
    yield "abbreviations", " ".join(f"Dr. Grey met Mr. Brown at {hour} p.m. today." for hour in range(1, number + 1))
    yield "ends in no", " ".join(["The answer was no. We went home."] * number)
    yield "dots inside", "The boats came... " + "and went... " * number + "at last."
    yield "country and initials", " ".join(["She left the U.S. He met J. R. Hill."] * number)
    yield "quotations", " ".join(f'He said "it is {hour}." Then he left.' for hour in range(1, number // 2 + 1))
    yield "numbered lines", "\n".join(f"{index + 1}. {SENTENCES[index % 15]}" for index in range(number))


def _paragraphs(a: Arguments) -> Noted:
    number = a["num_paragraphs"]
    for count in (number - 1, number, number + 1):
        yield f"{count} paragraphs", "\n***\n".join(SENTENCES[:count])
    yield "empty lines alone", "\n\n".join(SENTENCES[:number])
    yield "divider at the end", "\n\n***\n\n".join(SENTENCES[:number]) + "\n***"
    yield "an empty one inside", "\n***\n***\n".join(SENTENCES[:number])
    yield "one of dashes", "\n***\n".join([*SENTENCES[: number - 1], "---"])


def _words(a: Arguments) -> Noted:
    number = a["num_words"]
    for count in (number - 1, number, number + 1):
        yield f"{count} words", prose_of_words(count)
    yield "apostrophes", " ".join(["don't"] * (number // 2))
    yield "underscores", f"{prose(1)} " + "___ " * number


def _first_word(a: Arguments) -> Noted:
    number, nth, word = a["num_paragraphs"], a["nth_paragraph"], a["first_word"]

    def paragraphs(count: int, first: str, at: int) -> list[str]:
        return [f"{first} {SENTENCES[i]}" if i == at - 1 else SENTENCES[i] for i in range(count)]

    yield "right", "\n\n".join(paragraphs(number, word, nth))
    yield "capital and comma", "\n\n".join(paragraphs(number, f"{word.capitalize()},", nth))
    yield "in quotation marks", "\n\n".join(paragraphs(number, f'"{word}"', nth))
    yield "wrong place", "\n\n".join(paragraphs(number, word, nth % number + 1))
    yield "one paragraph more", "\n\n".join(paragraphs(number + 1, word, nth))
    yield "another word", "\n\n".join(paragraphs(number, f"{word}like", nth))
    yield "three line breaks", "\n\n\n\n".join(paragraphs(number, word, nth))


def _placeholders(a: Arguments) -> Noted:
    number = a["num_placeholders"]
    for count in (number - 1, number, number + 1):
        yield f"{count} placeholders", f"{prose(2)} Ask " + " ".join(f"[name {index}]" for index in range(count))
    yield "empty brackets", f"{prose(2)} " + "[] " * number
    yield "digits in brackets", f"{prose(2)} " + "[1] " * number


def _postscript(a: Arguments) -> Noted:
    marker = a["postscript_marker"]
    yield "right", f"{prose(3)}\n\n{marker} Bring bread."
    yield "small letters", f"{prose(3)}\n{marker.lower()} bring bread."
    yield "blanks inside", f"{prose(3)}\n{marker.replace('.', '. ').strip()} Bring bread."
    yield "the marker alone", f"{prose(3)}\n{marker}"
    yield "the other marker", f"{prose(3)}\n{'P.S.' if 'P.P' in marker else 'P.P.S.'} Bring bread."
    yield "without periods", f"{prose(3)}\n{marker.replace('.', '')} Bring bread."


def _bullets(a: Arguments) -> Noted:
    number = a["num_bullets"]
    for mark in ("* ", "- "):
        for count in (number - 1, number, number + 1):
            yield f"{count} with {mark}", "\n".join(f"{mark}{SENTENCES[index]}" for index in range(count))
    bullets = "\n".join(f"- {sentence}" for sentence in SENTENCES[:number])
    yield "a rule of dashes", f"{bullets}\n---\n{SENTENCES[0]}"
    yield "a rule of asterisks", f"{bullets}\n***\n{SENTENCES[0]}"
    yield "a line in bold", f"{bullets}\n**Boats**"
    yield "a line in italics", f"{bullets}\n*Boats* come home."
    yield "an empty bullet", f"{bullets}\n- \n{SENTENCES[0]}"
    yield "a nested bullet", f"{bullets}\n  * {SENTENCES[0]}"
    yield "an indented plus", f"{bullets}\n+ {SENTENCES[0]}"


def _constrained(_: Arguments) -> Noted:
    for word in ("yes", "no", "maybe"):
        yield word, f"My answer is {word}."
        yield "in a text", f"{prose(1)} My answer is {word}."
    yield "two of them", "My answer is yes. My answer is no."
    yield "small letters", "my answer is yes."
    yield "without a period", "My answer is yes"


def _highlights(a: Arguments) -> Noted:
    number = a["num_highlights"]
    for count in (number - 1, number, number + 1):
        yield f"{count} single", " ".join(f"*part {index}* and so on." for index in range(count)) + f" {prose(1)}"
    yield "double", " ".join(f"**part {index}** and so on." for index in range(number)) + f" {prose(1)}"
    half = (number + 1) // 2
    yield "half as many double", " ".join(f"**part {index}** and so on." for index in range(half)) + f" {prose(1)}"
    yield "empty", "* * " * number + prose(1)
    yield "digits", " ".join(["*1* and so on."] * number) + f" {prose(1)}"
    yield "bullets", "\n".join(f"* {SENTENCES[index % 15]}" for index in range(number + 1))


def _sections(a: Arguments) -> Noted:
    head, number = a["section_spliter"], a["num_sections"]
    for count in (number - 1, number, number + 1):
        yield f"{count} sections", "\n".join(f"{head} {index + 1}\n{SENTENCES[index]}" for index in range(count))
    yield "heads alone", f"{prose(1)}\n" + "\n".join(f"{head} {index + 1}" for index in range(number))
    yield "no blank", "\n".join(f"{head}{index + 1} {SENTENCES[index]}" for index in range(number))
    yield "inside a word", "\n".join(f"x{head} {index + 1}: {SENTENCES[index]}" for index in range(number))
    yield "another case", "\n".join(f"{head.swapcase()} {index + 1}: {SENTENCES[index]}" for index in range(number))


def _json(_: Arguments) -> Noted:
    body = json.dumps({"text": prose(2)})
    yield "object", body
    yield "array", json.dumps(list(SENTENCES[:3]))
    yield "fence", f"```json\n{body}\n```"
    yield "plain fence", f"```\n{body}\n```"
    yield "text around", f"Here it is: {body}"
    yield "repeated key", '{"text": "boats come home", "text": "nets dry"}'
    yield "NaN", '{"text": "boats come home", "number": NaN}'
    yield "long string", json.dumps(prose(2))
    yield "open fence", f"```json\n{body}"


def _title(_: Arguments) -> Noted:
    yield "right", f"<<The harbour>>\n\n{prose(3)}"
    yield "at the end", f"{prose(3)}\n<<The harbour>>"
    yield "empty", f"<< >>\n{prose(3)}"
    yield "digits", f"<<1>>\n{prose(3)}"
    yield "alone", "<<The harbour sleeps at night>>"
    yield "two lines", f"<<The\nharbour>>\n{prose(3)}"
    yield "three brackets", f"<<<The harbour>>>\n{prose(3)}"


def _two_responses(_: Arguments) -> Noted:
    yield "right", f"{prose(2)}\n******\n{SENTENCES[5]}"
    yield "the same twice", f"{prose(2)}\n******\n{prose(2)}"
    yield "the same in other case", f"{prose(2)}\n******\n{prose(2).upper()}"
    yield "three", f"{SENTENCES[0]}\n******\n{SENTENCES[1]}\n******\n{SENTENCES[2]}"
    yield "one", prose(2)
    yield "marks around", f"******\n{SENTENCES[0]}\n******\n{SENTENCES[1]}\n******"
    yield "the second of marks", f"{SENTENCES[0]}\n******\n!!!"
    yield "seven asterisks", f"{SENTENCES[0]}\n*******\n{SENTENCES[1]}"


def _repeat(a: Arguments) -> Noted:
    asked = a["prompt_to_repeat"]
    yield "right", f"{asked}\n\n{prose(2)}"
    yield "small letters", f"{asked.lower()}\n\n{prose(2)}"
    yield "the prompt alone", asked
    yield "words before", f"Sure: {asked}\n\n{prose(2)}"
    yield "the last word left out", f"{asked.rsplit(' ', 1)[0]}\n\n{prose(2)}"


def _capital(_: Arguments) -> Noted:
    yield "long", prose(6).upper()
    yield "one small letter", prose(6).upper()[:-2] + "s."
    yield "short", "THE BOATS COME HOME."
    yield "Spanish", " ".join(PHRASES["es"].sentences[:4]).upper()
    yield "Greek", " ".join(PHRASES["el"].sentences[:3]).upper()
    yield "short French", PHRASES["fr"].sentences[0].upper()


def _lowercase(_: Arguments) -> Noted:
    yield "long", prose(6).lower()
    yield "one capital", prose(6).lower().replace("nobody", "Nobody")
    yield "short", "the boats come home."
    yield "Spanish", " ".join(PHRASES["es"].sentences[:4]).lower()
    yield "Russian", " ".join(PHRASES["ru"].sentences[:3]).lower()
    yield "short French", PHRASES["fr"].sentences[0].lower()


def _capital_words(a: Arguments) -> Noted:
    number = a["capital_frequency"]
    for count in (number - 1, number, number + 1):
        yield f"{count} words", f"We say {' '.join(['HARBOUR'] * count)} again and again."
    yield "hyphens", f"We say {' '.join(['ALL-OVER'] * number)} again and again."
    yield "single letters", "I " * number + "see the boats come home."
    yield "with points", f"We like the {' '.join(['U.S.A.'] * number)} again and again."
    yield "with slashes", f"We say {' '.join(['BOAT/NET'] * number)} again and again."
    yield "with numbers", f"We fly {' '.join(['B52'] * number)} again and again."
    yield "apostrophes", f"We say {' '.join(['''DON'T'''] * number)} again and again."


def _comma(_: Arguments) -> Noted:
    yield "none", prose(6)
    yield "one", prose(6).replace("Nobody", "Well, nobody")
    yield "Arabic", f"{prose(2)} ،"
    yield "full width", f"{prose(2)} ，"


def _end(a: Arguments) -> Noted:
    phrase = a["end_phrase"]
    yield "right", f"{prose(2)} {phrase}"
    yield "small letters", f"{prose(2)} {phrase.lower()}"
    yield "in quotation marks", f'"{prose(2)} {phrase}"'
    yield "words after", f"{prose(2)} {phrase} Bye."
    yield "a mark after", f"{prose(2)} {phrase}!"
    yield "inside a word", f"{prose(2)} x{phrase}"
    yield "at the start", f"{phrase} {prose(2)}"


def _quotation(_: Arguments) -> Noted:
    yield "right", f'"{prose(2)}"'
    yield "blanks around", f'  "{prose(2)}"\n'
    yield "open", f'"{prose(2)}'
    yield "curly", f"“{prose(2)}”"
    yield "empty", '""'
    yield "two quotations", f'"{SENTENCES[0]}" and "{SENTENCES[1]}"'


CANDIDATES: Mapping[str, Callable[[Arguments], Noted]] = {
    "change_case:capital_word_frequency": _capital_words, "change_case:english_capital": _capital,
    "change_case:english_lowercase": _lowercase, "combination:repeat_prompt": _repeat,
    "combination:two_responses": _two_responses, "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript, "detectable_format:constrained_response": _constrained,
    "detectable_format:json_format": _json, "detectable_format:multiple_sections": _sections,
    "detectable_format:number_bullet_lists": _bullets, "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:title": _title, "keywords:existence": _existence, "keywords:forbidden_words": _forbidden,
    "keywords:frequency": _frequency, "keywords:letter_frequency": _letter, "language:response_language": _language,
    "length_constraints:nth_paragraph_first_word": _first_word, "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_sentences": _sentences, "length_constraints:number_words": _words,
    "punctuation:no_comma": _comma, "startend:end_checker": _end, "startend:quotation": _quotation,
}  # fmt: skip
"""IFEval's instruction id -> its candidates, each with a note."""
