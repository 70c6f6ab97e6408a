"""Questions and advice in several languages: the bank of the multilingual chat task.

For each language: `greetings` and an `ask` for each topic make the prompts; `tips` are answers, each of which holds one
of the topic's `stems`; `and` joins two tips; `function_words` are what its prose is made of.
"""

from __future__ import annotations

from typing import Any

TOPICS = ("sleep", "soup", "tea", "money", "run", "read")

ENGLISH_ASKS = {
    "sleep": "How can I sleep better?", "soup": "How do I make a good soup?", "tea": "How do I make good tea?",
    "money": "How can I save money?", "run": "How can I run longer?", "read": "How can I read more?",
}  # fmt: skip


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _topic(ask: str, stems: str, first: str, second: str) -> dict[str, Any]:
    return {"ask": ask, "stems": tuple(stems.split()), "tips": (first, second)}


PHRASES: dict[str, dict[str, Any]] = {
    "de": {
        "greetings": ("Ich bin {name}.", "Hallo, hier ist {name}."),
        "and": "und",
        "function_words": _listed(
            "aber als am an auch auf aus bei bevor bis da damit das dass dein deine deinem deinen dem den der des "
            "die dir dich du ein eine einem einen einer es für hat ich im in ins ist jede jeden jeder mal man mit "
            "nach nicht noch nur oder ohne pro sehr sich sie sind so um und vom von vor wenn wie wird zu zum zur "
            "zwei"
        ),
        "sleep": _topic(
            "Wie kann ich besser schlafen?", "schlaf schläf bett nacht nächt abend ruhe müd aufsteh",
            "halte dein Schlafzimmer dunkel und ruhig", "geh jeden Abend zur gleichen Zeit ins Bett",
        ),
        "soup": _topic(
            "Wie koche ich eine gute Suppe?", "supp koch salz gemüs topf brüh zwiebel hitze",
            "lass die Suppe lange auf kleiner Hitze kochen", "gib am Ende etwas Salz in die Suppe",
        ),
        "tea": _topic(
            "Wie mache ich guten Tee?", "tee tees wasser tasse kanne blätter zieh",
            "nimm frisches Wasser für den Tee", "lass den Tee nur drei Minuten ziehen",
        ),
        "money": _topic(
            "Wie kann ich Geld sparen?", "geld spar ausgab kost preis kauf",
            "schreib jede Ausgabe in ein kleines Heft", "leg jeden Monat etwas Geld zur Seite",
        ),
        "run": _topic(
            "Wie kann ich länger laufen?", "lauf läuf schuh tempo bein schritt paus",
            "lauf langsam und mach kurze Pausen", "trag gute Schuhe und lauf zweimal pro Woche",
        ),
        "read": _topic(
            "Wie kann ich mehr lesen?", "lies les buch büch seite roman kapitel",
            "lies jeden Abend zehn Seiten im Bett", "nimm immer ein Buch in der Tasche mit",
        ),
    },
    "fr": {
        "greetings": ("Je suis {name}.", "Bonjour, c'est {name}."),
        "and": "et",
        "function_words": _listed(
            "à au aux avant avec ce ces cette chaque dans de des du elle en est et il je l la le les leur mais même "
            "mon ne ou où par pas plus pour qu que qui sa sans se ses si son sont sur ta te tes ton toujours tous "
            "tout très tu un une vers votre vos vous y d c'est l'eau j'ai d'argent d'eau"
        ),
        "sleep": _topic(
            "Comment mieux dormir ?", "dorm dors lit lits chambre soir nuit sommeil repos couch",
            "garde ta chambre sombre et calme", "va au lit à la même heure chaque soir",
        ),
        "soup": _topic(
            "Comment faire une bonne soupe ?", "soupe cuir cuis cuit sel légume feu marmite bouillon",
            "laisse cuire la soupe à feu doux", "ajoute un peu de sel dans la soupe",
        ),
        "tea": _topic(
            "Comment faire un bon thé ?", "thé eau l'eau infus tasse feuille théière",
            "prends de l'eau fraîche pour le thé", "laisse infuser le thé trois minutes",
        ),
        "money": _topic(
            "Comment économiser de l'argent ?", "argent d'argent l'argent dépens économ prix coût achat épargn",
            "note chaque dépense dans un petit cahier", "mets un peu d'argent de côté chaque mois",
        ),
        "run": _topic(
            "Comment courir plus longtemps ?", "cour chaussur rythme jambe pas kilom pause",
            "cours lentement et fais de petites pauses", "porte de bonnes chaussures pour courir",
        ),
        "read": _topic(
            "Comment lire plus ?", "livre lis lire page lectur roman",
            "lis dix pages au lit chaque soir", "garde toujours un livre dans ton sac",
        ),
    },
    "es": {
        "greetings": ("Soy {name}.", "Hola, me llamo {name}."),
        "and": "y",
        "function_words": _listed(
            "a al antes así cada como con cuando de del donde dos e el ella en es esta está este estos ha hasta la "
            "las le lo los más me mi muy no nos o para pero por que qué se sea ser si sí sin sobre son su sus "
            "también te ti tu tus un una unas unos y ya"
        ),
        "sleep": _topic(
            "¿Cómo puedo dormir mejor?", "dorm duerm cama cuarto noche sueño descans",
            "mantén tu cuarto oscuro y tranquilo", "ve a la cama a la misma hora cada noche",
        ),
        "soup": _topic(
            "¿Cómo hago una buena sopa?", "sopa herv sal fuego olla verdura caldo cocin",
            "deja hervir la sopa a fuego lento", "añade un poco de sal a la sopa",
        ),
        "tea": _topic(
            "¿Cómo hago un buen té?", "té agua taza hoja infus tetera",
            "usa agua fresca para el té", "deja reposar el té tres minutos",
        ),
        "money": _topic(
            "¿Cómo puedo ahorrar dinero?", "diner gast ahorr precio compr cuest",
            "anota cada gasto en un cuaderno pequeño", "guarda un poco de dinero cada mes",
        ),
        "run": _topic(
            "¿Cómo puedo correr más tiempo?", "corr zapat ritmo piern paso kiló pausa",
            "corre despacio y haz pausas cortas", "usa buenos zapatos para correr",
        ),
        "read": _topic(
            "¿Cómo puedo leer más?", "libro lee leer página lectur novel",
            "lee diez páginas en la cama cada noche", "lleva siempre un libro en tu bolsa",
        ),
    },
    "it": {
        "greetings": ("Sono {name}.", "Ciao, mi chiamo {name}."),
        "and": "e",
        "function_words": _listed(
            "a ad ai al alla alle allo anche che chi ci come con da dal dalla degli dei del della delle di due e è "
            "ed fa gli ha i il in la le lo ma mi molto ne nel nella nelle non o ogni per però più po prima qui se "
            "sempre si sono su sul sulla ti tra tu tua tuo un una uno poi"
        ),
        "sleep": _topic(
            "Come posso dormire meglio?", "dorm letto camera stanza sera notte sonno ripos",
            "tieni la tua stanza buia e silenziosa", "vai a letto alla stessa ora ogni sera",
        ),
        "soup": _topic(
            "Come faccio una buona zuppa?", "zupp boll sale fuoco pentol verdur brodo cuoc cucin",
            "lascia bollire la zuppa a fuoco lento", "aggiungi del sale alla zuppa",
        ),
        "tea": _topic(
            "Come faccio un buon tè?", "tè acqua tazz fogli infus teiera",
            "usa acqua fresca per il tè", "lascia riposare il tè tre minuti",
        ),
        "money": _topic(
            "Come posso risparmiare denaro?", "denar spes risparm prezz compr cost soldi",
            "scrivi ogni spesa in un piccolo quaderno", "metti da parte un po' di denaro ogni mese",
        ),
        "run": _topic(
            "Come posso correre più a lungo?", "corr scarp ritmo gamb passo chilom paus",
            "corri piano e fai delle brevi pause", "usa delle buone scarpe per correre",
        ),
        "read": _topic(
            "Come posso leggere di più?", "libr legg pagin lettur romanz",
            "leggi dieci pagine a letto ogni sera", "porta sempre un libro nella borsa",
        ),
    },
    "pt": {
        "greetings": ("Eu sou {name}.", "Olá, eu me chamo {name}."),
        "and": "e",
        "function_words": _listed(
            "a à ao aos as às até cada com como da das de do dos duas e é ela ele em é era essa esse esta está este "
            "eu foi já lhe mais mas me mesmo meu muito na nas não nem no nos o os ou para pela pelo por quando que "
            "se sem ser seu seus sua são só também te tem todo toda todos tu um uma você"
        ),
        "sleep": _topic(
            "Como posso dormir melhor?", "dorm cama quarto noite sono descans",
            "mantenha o quarto escuro e silencioso", "vá para a cama na mesma hora toda noite",
        ),
        "soup": _topic(
            "Como faço uma boa sopa?", "sopa ferv sal fogo panel legum caldo cozin",
            "deixe a sopa ferver em fogo baixo", "coloque um pouco de sal na sopa",
        ),
        "tea": _topic(
            "Como faço um bom chá?", "chá água xícara folha infus bule",
            "use água fresca para o chá", "deixe o chá descansar três minutos",
        ),
        "money": _topic(
            "Como posso economizar dinheiro?", "dinheiro gast econom preço compr poup",
            "anote cada gasto em um caderno pequeno", "guarde um pouco de dinheiro todo mês",
        ),
        "run": _topic(
            "Como posso correr mais tempo?", "corr sapat ritmo perna passo quilô pausa",
            "corra devagar e faça pausas curtas", "use bons sapatos para correr",
        ),
        "read": _topic(
            "Como posso ler mais?", "livro ler leia página leitur romanc",
            "leia dez páginas na cama toda noite", "leve sempre um livro na bolsa",
        ),
    },
    "nl": {
        "greetings": ("Ik ben {name}.", "Hallo, ik heet {name}."),
        "and": "en",
        "function_words": _listed(
            "aan al als altijd bij dan dat de deze die dit doe door een eerst elke en er ga geen haar hem het hij ik "
            "in is je jij jouw kan maar me meer met mijn na naar niet nog nu of om ons ook op over per te tijd toe "
            "tot u uit uw van veel voor was wat we wel wij ze zich zij zijn zo zonder"
        ),
        "sleep": _topic(
            "Hoe kan ik beter slapen?", "slaap slap bed avond nacht rust",
            "houd je slaapkamer donker en stil", "ga elke avond op dezelfde tijd naar bed",
        ),
        "soup": _topic(
            "Hoe maak ik een goede soep?", "soep kook koken zout pan groent bouillon",
            "laat de soep zachtjes koken op laag vuur", "doe aan het eind wat zout in de soep",
        ),
        "tea": _topic(
            "Hoe zet ik goede thee?", "thee water kopje blad trek",
            "neem vers water voor de thee", "laat de thee drie minuten trekken",
        ),
        "money": _topic(
            "Hoe kan ik geld besparen?", "geld spar bespa spaar uitga prijs kost koop",
            "schrijf elke uitgave in een klein schrift", "leg elke maand wat geld opzij",
        ),
        "run": _topic(
            "Hoe kan ik langer hardlopen?", "loop loopt lopen hardlo schoen been pauz",
            "loop langzaam en neem korte pauzes", "draag goede schoenen en loop elke week",
        ),
        "read": _topic(
            "Hoe kan ik meer lezen?", "lees lezen boek bladzij roman pagin",
            "lees elke avond tien bladzijden in bed", "neem altijd een boek mee in je tas",
        ),
    },
}  # fmt: skip
