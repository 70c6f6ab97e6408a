"""Small phrase banks in sixteen languages: what prompts and gold answers of `reply_language` are made of.

Written for this project. Each language has a name for "topic" and for "reply language", a question, eight topics in the
order of TOPICS, one sentence about each, three sentences that go with any of them, and its commonest small words: a
sentence without a single one of them is hardly a sentence of the language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TOPICS = ("sea", "city", "garden", "winter", "soup", "music", "book", "train")


@dataclass(frozen=True, slots=True)
class Phrases:
    """The bank of one language; `topics` and `sentences` follow the order of TOPICS."""

    topic: str
    reply: str
    question: str
    topics: tuple[str, ...]
    sentences: tuple[str, ...]
    more: tuple[str, ...]
    small_words: frozenset[str]


def _bank(topic: str, reply: str, question: str, topics: str, sentences: str, more: str, small_words: str) -> Phrases:
    def lines(text: str) -> tuple[str, ...]:
        return tuple(line.strip() for line in text.strip().split("/"))

    return Phrases(topic, reply, question, lines(topics), lines(sentences), lines(more), frozenset(small_words.split()))


PHRASES: Mapping[str, Phrases] = {
    "en": _bank(
        "Topic", "Reply language", "What can you tell me about it?",
        "the sea/the city/the garden/winter/soup/music/the book/the train",
        """The sea is calm and very blue today./
        The city is loud but full of life./The garden is green and full of roses./
        The winter is long and very cold here./
        The soup is hot and tastes very good./The music is soft and makes us happy./
        The book is old but still worth reading./The train is late again this morning.""",
        """I think about it every day./My friends would like to know more about this./
        There is always something new to see.""",
        "the a an and is are of to in it that this for with on was we i you my not be but there",
    ),
    "de": _bank(
        "Thema", "Antwortsprache", "Was kannst du mir darüber sagen?",
        "das Meer/die Stadt/der Garten/der Winter/die Suppe/die Musik/das Buch/der Zug",
        """Das Meer ist heute ruhig und sehr blau./Die Stadt ist laut, aber voller Leben./
        Der Garten ist grün und voller Rosen./Der Winter ist hier lang und sehr kalt./
        Die Suppe ist heiß und schmeckt sehr gut./Die Musik ist leise und macht uns froh./
        Das Buch ist alt, aber noch lesenswert./Der Zug hat heute Morgen wieder Verspätung.""",
        """Ich denke jeden Tag darüber nach./
        Meine Freunde wollen auch mehr davon wissen./Es gibt immer etwas Neues zu sehen.""",
        "der die das und ist sind ein eine in zu den von mit es nicht auf für ich wir uns hat aber auch sehr",
    ),
    "es": _bank(
        "Tema", "Idioma de la respuesta", "¿Qué me puedes contar sobre esto?",
        "el mar/la ciudad/el jardín/el invierno/la sopa/la música/el libro/el tren",
        """El mar está hoy tranquilo y muy azul./La ciudad es ruidosa pero llena de vida./
        El jardín está verde y lleno de rosas./El invierno aquí es largo y muy frío./
        La sopa está caliente y sabe muy bien./La música es suave y nos hace felices./
        El libro es viejo, pero aún merece la pena./El tren llega tarde otra vez esta mañana.""",
        """Yo pienso en ello todos los días./
        Mis amigos quieren saber más sobre esto./Siempre hay algo nuevo que ver.""",
        "el la los las y es está en de que un una con no por para se su me lo muy pero hay más",
    ),
    "fr": _bank(
        "Sujet", "Langue de la réponse", "Que peux-tu me dire à ce propos ?",
        "la mer/la ville/le jardin/l'hiver/la soupe/la musique/le livre/le train",
        """La mer est très calme et bleue aujourd'hui./La ville est bruyante mais pleine de vie./
        Le jardin est vert et plein de roses./L'hiver est long et très froid ici./
        La soupe est chaude et elle est très bonne./La musique est douce et nous rend heureux./
        Le livre est vieux, mais il vaut la peine./Le train est encore en retard ce matin.""",
        """J'y pense tous les jours avec plaisir./
        Mes amis veulent en savoir davantage./Il y a toujours quelque chose à voir.""",
        "le la les et est sont de des du un une en à il elle que qui pas pour dans nous ce très mais y",
    ),
    "it": _bank(
        "Argomento", "Lingua della risposta", "Che cosa mi puoi dire di questo?",
        "il mare/la città/il giardino/l'inverno/la zuppa/la musica/il libro/il treno",
        """Il mare oggi è calmo e molto azzurro./La città è rumorosa ma piena di vita./
        Il giardino è verde e pieno di rose./Qui l'inverno è lungo e molto freddo./
        La zuppa è calda e ha un buon sapore./La musica è dolce e ci rende felici./
        Il libro è vecchio, ma vale ancora la pena./Il treno è di nuovo in ritardo stamattina.""",
        """Io ci penso tutti i giorni con piacere./
        I miei amici vogliono saperne di più./C'è sempre qualcosa di nuovo da vedere.""",
        "il la lo i gli le e è sono di che un una in per con non si ci ma più molto da ha",
    ),
    "nl": _bank(
        "Onderwerp", "Antwoordtaal", "Wat kun je mij daarover vertellen?",
        "de zee/de stad/de tuin/de winter/de soep/de muziek/het boek/de trein",
        """De zee is vandaag kalm en heel blauw./De stad is lawaaierig maar vol leven./
        De tuin is groen en staat vol met rozen./De winter is hier lang en heel erg koud./
        De soep is warm en smaakt heel lekker./De muziek is zacht en maakt ons gelukkig./
        Het boek is oud, maar nog steeds de moeite waard./De trein is vanochtend weer te laat.""",
        """Ik denk er elke dag over na./Mijn vrienden willen er graag meer over weten./
        Er is altijd wel iets nieuws te zien.""",
        "de het een en is zijn van in te dat op met voor niet ik je we ons er maar heel nog naar over",
    ),
    "pl": _bank(
        "Temat", "Język odpowiedzi", "Co możesz mi o tym powiedzieć?",
        "morze/miasto/ogród/zima/zupa/muzyka/książka/pociąg",
        """Morze jest dziś spokojne i bardzo niebieskie./Miasto jest głośne, ale pełne życia./
        Ogród jest zielony i pełen róż./Zima jest tutaj długa i bardzo mroźna./
        Zupa jest gorąca i bardzo smaczna./Muzyka jest cicha i nas uszczęśliwia./
        Książka jest stara, ale warto ją przeczytać./Pociąg znowu się dzisiaj spóźnia.""",
        """Myślę o tym każdego dnia./Moi przyjaciele chcą się o tym dowiedzieć więcej./
        Zawsze jest tu coś nowego do zobaczenia.""",
        "jest są i w na z się nie to do że o ale jak co po za tak dla od bardzo tu nas ją",
    ),
    "pt": _bank(
        "Tema", "Língua da resposta", "O que você pode me dizer sobre isso?",
        "o mar/a cidade/o jardim/o inverno/a sopa/a música/o livro/o trem",
        """O mar hoje está calmo e muito azul, não é?/A cidade é barulhenta, mas não lhe falta vida./
        O jardim está verde e cheio de rosas./O inverno aqui é longo e faz muito frio./
        A sopa está quente e muito saborosa./A música é suave e nos deixa muito felizes./
        O livro é velho, mas ainda vale a leitura./O trem está outra vez atrasado esta manhã.""",
        """Eu penso nisso todos os dias./Os meus amigos querem saber mais sobre isso./
        Há sempre alguma coisa nova para ver.""",
        "o a os as e é está de do da que um uma em no na não por para com se mais muito mas eu",
    ),
    "tr": _bank(
        "Konu", "Yanıt dili", "Bana bunun hakkında ne söyleyebilirsin?",
        "deniz/şehir/bahçe/kış/çorba/müzik/kitap/tren",
        """Deniz bugün çok sakin ve masmavi./Şehir gürültülü ama hayat dolu./Bahçe yemyeşil ve güllerle dolu./
        Burada kış çok uzun ve soğuk geçer./Çorba sıcak ve tadı çok güzel./Müzik çok hafif ve bizi mutlu ediyor./
        Kitap eski ama okumaya hâlâ değer bir eser./Tren bu sabah yine geç kaldı.""",
        """Bunu her gün çok düşünüyorum./Arkadaşlarım bu konuda daha fazla bilgi istiyor./
        Burada her zaman görecek yeni bir şey var.""",
        "ve bir bu çok ama da de ile için ne gibi daha var her o ben biz bizi mi en olarak sonra yine",
    ),
    "ru": _bank(
        "Тема", "Язык ответа", "Что ты можешь мне об этом рассказать?",
        "море/город/сад/зима/суп/музыка/книга/поезд",
        """Море сегодня спокойное и очень синее./Город шумный, но в нём много жизни./Сад зелёный, и в нём много роз./
        Зима здесь долгая и очень холодная./Суп горячий и очень вкусный, как всегда./
        Музыка тихая, и она делает нас счастливыми./Книга старая, но её стоит прочитать./
        Поезд сегодня утром снова опаздывает на час.""",
        """Я думаю об этом каждый день./Мои друзья хотят узнать об этом больше./Здесь всегда есть на что посмотреть.""",
        "и в не на что я с он она как это но по из у за от о об есть очень для нас её так мы",
    ),
    "el": _bank(
        "Θέμα", "Γλώσσα απάντησης", "Τι μπορείς να μου πεις γι' αυτό;",
        "η θάλασσα/η πόλη/ο κήπος/ο χειμώνας/η σούπα/η μουσική/το βιβλίο/το τρένο",
        """Η θάλασσα είναι σήμερα ήρεμη και γαλάζια./Η πόλη είναι θορυβώδης αλλά γεμάτη ζωή./
        Ο κήπος είναι πράσινος και γεμάτος τριαντάφυλλα./Ο χειμώνας εδώ είναι μακρύς και κρύος./
        Η σούπα είναι ζεστή και πολύ νόστιμη./Η μουσική είναι απαλή και μας κάνει χαρούμενους./
        Το βιβλίο είναι παλιό αλλά αξίζει./Το τρένο άργησε πάλι σήμερα το πρωί.""",
        """Το σκέφτομαι κάθε μέρα με χαρά./
        Οι φίλοι μου θέλουν να μάθουν περισσότερα./Υπάρχει πάντα κάτι καινούριο να δεις.""",
        "ο η το οι τα και είναι να του της στο στη με για από δεν που μας θα αλλά πολύ μου ένα μια την τον",
    ),
    "ar": _bank(
        "الموضوع", "لغة الرد", "ماذا يمكنك أن تخبرني عن هذا؟",
        "البحر/المدينة/الحديقة/الشتاء/الحساء/الموسيقى/الكتاب/القطار",
        """البحر هادئ جدا اليوم وهو أزرق في الصباح./المدينة صاخبة لكن الحياة في كل مكان./
        الحديقة خضراء والورود في كل مكان./الشتاء هنا طويل وبارد جدا في الليل./
        الحساء ساخن وطعمه لذيذ جدا./الموسيقى هادئة جدا وهي تجعلنا سعداء./
        الكتاب قديم لكن قراءته مفيدة جدا./القطار متأخر مرة أخرى في هذا الصباح.""",
        """أفكر في هذا كل يوم./أصدقائي يريدون أن يعرفوا المزيد عن هذا./هناك دائما شيء جديد في المدينة.""",
        "في من على أن إلى عن هذا هذه هو هي لا ما كل مع كان لكن جدا التي الذي هناك قد بعد",
    ),
    "hi": _bank(
        "विषय", "उत्तर की भाषा", "आप मुझे इसके बारे में क्या बता सकते हैं?",
        "समुद्र/शहर/बगीचा/सर्दी/सूप/संगीत/किताब/रेलगाड़ी",
        """समुद्र आज शांत और बहुत नीला है।/शहर में शोर है पर वह जीवन से भरा है।/बगीचा हरा और गुलाबों से भरा है।/
        यहाँ सर्दी लंबी और बहुत ठंडी होती है।/सूप गरम है और बहुत स्वादिष्ट है।/संगीत मधुर है और हमें खुश करता है।/
        किताब पुरानी है पर पढ़ने के लायक है।/रेलगाड़ी आज सुबह फिर से देर से आई है।""",
        """मैं हर दिन इसके बारे में सोचता हूँ।/
        मेरे दोस्त इसके बारे में और जानना चाहते हैं।/यहाँ हमेशा कुछ नया देखने को मिलता है।""",
        "है हैं और में की के का को से पर यह वह एक ने हो नहीं बहुत भी तो हूँ था हमें कुछ इस",
    ),
    "zh": _bank(
        "主题", "回答语言", "关于这个，你能告诉我什么？",
        "大海/城市/花园/冬天/汤/音乐/书/火车",
        """今天的大海很平静，也非常蓝。/这座城市很吵，但是充满了生活的气息。/花园里一片绿色，开满了玫瑰。/
        这里的冬天又长又冷，常常下雪。/这碗汤很热，味道也非常好。/音乐很轻柔，让我们都很高兴。/
        这本书虽然旧了，但是还值得一读。/今天早上的火车又晚点了半个小时。""",
        """我每天都在想这件事情。/我的朋友们也想知道更多。/这里总是有新的东西可以看。""",
        "的 是 了 在 很 也 这 我 有 不 们 都 和 就 里 人 他",
    ),
    "ja": _bank(
        "話題", "返答の言語", "これについて何を教えてくれますか？",
        "海/町/庭/冬/スープ/音楽/本/電車",
        """今日の海は静かで、とても青いです。/この町はにぎやかで、活気があります。/庭は緑で、バラがたくさん咲いています。/
        ここの冬は長くて、とても寒いです。/スープは熱くて、とてもおいしいです。/音楽は静かで、私たちを幸せにします。/
        この本は古いですが、読む価値があります。/今朝もまた電車が遅れています。""",
        """毎日そのことを考えています。/友だちもそれについてもっと知りたがっています。/いつも何か新しいものが見られます。""",
        "の は が を に で と も です ます て た る から まで",
    ),
    "ko": _bank(
        "주제", "답변 언어", "이것에 대해 무엇을 말해 줄 수 있나요?",
        "바다/도시/정원/겨울/수프/음악/책/기차",
        """오늘 바다는 아주 조용하고 파랗습니다./이 도시는 시끄럽지만 활기가 넘칩니다./정원은 푸르고 장미가 가득합니다./
        이곳의 겨울은 길고 아주 춥습니다./수프는 뜨겁고 맛이 아주 좋습니다./음악은 부드럽고 우리를 행복하게 합니다./
        그 책은 오래되었지만 읽을 가치가 있습니다./오늘 아침에 기차가 또 늦었습니다.""",
        """저는 매일 그것을 생각합니다./제 친구들도 더 많이 알고 싶어 합니다./여기에는 언제나 새로운 것이 있습니다.""",
        "은 는 이 가 을 를 에 의 도 다 고 서 로 요",
    ),
}  # fmt: skip
"""ISO 639-1 code to bank. The small words of Chinese, Japanese and Korean stand inside words."""
