"""What the synthetic world talks about: plain data for `vasa_ref.world.voice`.

SENTENCES: code -> (English name, espeak-ng's identifier, everyday sentences divided by "|"). The last two sentences of
a language are held out from training, in English the last six, and of the last four languages all of them. TEMPLATES
with WORDS, or with HELD_OUT_WORDS for the benchmark, make further English sentences; choices are divided by "|" where
they hold spaces.
"""

SENTENCES = {
    "en": ("English", "en", """The weather is lovely this morning. | Could you open the window, please? |
        I have never been to the mountains before. | My brother bought a big blue umbrella. |
        What time does the train leave? | She smiled and put the letter on the table. |
        Please remember to bring your passport. | We should talk about it. |
        That was the best film of the whole year! | Both of them work in a small bakery. |
        Nobody knows why the lamp fell. | He jumped over the puddle and laughed. |
        The baby is sleeping, so be quiet. | How wonderful to see you again! |
        A thousand people waited for the music. | Yes, of course, whenever you like. |
        The river was frozen from shore to shore. | Every Sunday my grandfather makes pancakes. |
        Would anybody prefer tea with lemon? | Stop worrying about the bill. | They voted for a much bolder plan. |
        Her voice filled the empty church."""),
    "de": ("German", "de", """Das Wetter ist heute wirklich schön. | Wo ist bitte der Bahnhof? |
        Meine Mutter backt am Samstag Brot. | Wir haben den ganzen Tag gewartet. |
        Ich möchte einen Kaffee mit Milch. | Der Hund schläft unter dem Tisch. | Kannst du mir bitte helfen? |
        Morgen fahren wir zusammen ans Meer."""),
    "fr": ("French", "fr", """Il fait très beau ce matin. | Où se trouve la gare, s'il vous plaît ? |
        Ma sœur habite dans une petite maison. | Nous avons mangé du pain et du fromage. |
        Je voudrais un café, merci. | Le chat dort sur le canapé. | Pouvez-vous parler plus lentement ? |
        Demain, nous partons à la montagne."""),
    "es": ("Spanish", "es", """Hoy hace muy buen tiempo. | ¿Dónde está la estación de tren? |
        Mi hermano trabaja en una panadería. | Me gusta mucho la música. | Quiero un vaso de agua, por favor. |
        El perro duerme debajo de la mesa. | ¿Puedes abrir la ventana? | Mañana vamos a visitar a mi abuela."""),
    "it": ("Italian", "it", """Oggi il tempo è bellissimo. | Dov'è la stazione, per favore? |
        Mia madre prepara la pasta. | Abbiamo camminato tutto il giorno. | Vorrei un bicchiere d'acqua. |
        Il gatto dorme sulla sedia. | Puoi chiudere la porta? | Domani andiamo insieme al mare."""),
    "pt": ("Portuguese", "pt", """Hoje o tempo está muito bom. | Onde fica a estação? |
        A minha irmã gosta de música. | Nós comemos pão com queijo. | Eu queria um café, por favor. |
        O cão dorme debaixo da mesa. | Pode falar mais devagar? | Amanhã vamos todos à praia."""),
    "nl": ("Dutch", "nl", """Het is vandaag prachtig weer. | Waar is het station, alstublieft? |
        Mijn broer woont in een klein huis. | Wij hebben de hele dag gewerkt. | Ik wil graag een kopje koffie. |
        De hond slaapt onder de tafel. | Kun je me even helpen? | Morgen gaan we samen naar zee."""),
    "sv": ("Swedish", "sv", """Det är vackert väder i dag. | Var ligger stationen? |
        Min mamma bakar bröd på lördagar. | Vi har väntat hela dagen. | Jag vill ha en kopp kaffe, tack. |
        Hunden sover under bordet. | Kan du hjälpa mig lite? | I morgon åker vi till havet."""),
    "da": ("Danish", "da", """Vejret er meget smukt i dag. | Hvor ligger stationen? | Min bror bor i et lille hus. |
        Vi har ventet hele dagen. | Jeg vil gerne have en kop kaffe. | Hunden sover under bordet. |
        Kan du hjælpe mig? | I morgen rejser vi til byen."""),
    "nb": ("Norwegian", "nb", """Været er veldig fint i dag. | Hvor er jernbanestasjonen? |
        Moren min baker brød hver lørdag. | Vi har ventet hele dagen. | Jeg vil gjerne ha en kopp kaffe. |
        Hunden sover under bordet. | Kan du hjelpe meg? | I morgen drar vi til fjellet."""),
    "fi": ("Finnish", "fi", """Tänään on kaunis ilma. | Missä on rautatieasema? | Äitini leipoo leipää lauantaina. |
        Olemme odottaneet koko päivän. | Haluaisin kupin kahvia, kiitos. | Koira nukkuu pöydän alla. |
        Voitko auttaa minua? | Huomenna menemme yhdessä uimaan."""),
    "pl": ("Polish", "pl", """Dzisiaj jest bardzo ładna pogoda. | Gdzie jest dworzec kolejowy? |
        Moja mama piecze chleb w sobotę. | Czekaliśmy przez cały dzień. | Poproszę filiżankę kawy. |
        Pies śpi pod stołem. | Czy możesz mi pomóc? | Jutro jedziemy razem nad morze."""),
    "cs": ("Czech", "cs", """Dnes je opravdu krásné počasí. | Kde je prosím nádraží? |
        Moje maminka peče v sobotu chleba. | Čekali jsme celý den. | Dal bych si šálek kávy. | Pes spí pod stolem. |
        Můžeš mi prosím pomoct? | Zítra pojedeme společně do hor."""),
    "hu": ("Hungarian", "hu", """Ma nagyon szép idő van. | Hol van a pályaudvar? |
        Az anyám szombaton kenyeret süt. | Egész nap vártunk rád. | Kérek egy csésze kávét. |
        A kutya az asztal alatt alszik. | Tudnál segíteni nekem? | Holnap együtt megyünk a hegyekbe."""),
    "ro": ("Romanian", "ro", """Astăzi este o vreme frumoasă. | Unde este gara, vă rog? |
        Mama mea face pâine sâmbăta. | Am așteptat toată ziua. | Aș vrea o ceașcă de cafea. |
        Câinele doarme sub masă. | Poți să mă ajuți puțin? | Mâine mergem împreună la mare."""),
    "el": ("Greek", "el", """Σήμερα ο καιρός είναι πολύ καλός. | Πού είναι ο σταθμός, παρακαλώ; |
        Η μητέρα μου φτιάχνει ψωμί. | Περιμέναμε όλη την ημέρα. | Θα ήθελα έναν καφέ. |
        Ο σκύλος κοιμάται κάτω από το τραπέζι. | Μπορείς να με βοηθήσεις; | Αύριο πάμε μαζί στη θάλασσα."""),
    "tr": ("Turkish", "tr", """Bugün hava çok güzel. | Tren istasyonu nerede? | Annem cumartesi ekmek yapar. |
        Bütün gün seni bekledik. | Bir fincan kahve istiyorum. | Köpek masanın altında uyuyor. |
        Bana yardım eder misin? | Yarın birlikte denize gidiyoruz."""),
    "ru": ("Russian", "ru", """Сегодня очень хорошая погода. | Где находится вокзал? | Моя мама печёт хлеб. |
        Мы ждали тебя весь день. | Я хотел бы чашку кофе. | Собака спит под столом. | Ты можешь мне помочь? |
        Завтра мы поедем на море."""),
    "uk": ("Ukrainian", "uk", """Сьогодні дуже гарна погода. | Де знаходиться вокзал? | Моя мама пече хліб. |
        Ми чекали на тебе весь день. | Я хотів би чашку кави. | Собака спить під столом. |
        Ти можеш мені допомогти? | Завтра ми поїдемо до моря."""),
    "hi": ("Hindi", "hi", """आज मौसम बहुत अच्छा है। | रेलवे स्टेशन कहाँ है? | मेरी माँ रोटी बनाती है। |
        हमने पूरे दिन इंतज़ार किया। | मुझे एक कप चाय चाहिए। | कुत्ता मेज़ के नीचे सो रहा है। |
        क्या आप मेरी मदद करेंगे? | कल हम सब बाज़ार जाएँगे।"""),
    "zh": ("Mandarin Chinese", "cmn", """今天天气很好。 | 请问火车站在哪里? | 我妈妈喜欢做面包。 |
        我们等了一整天。 | 我想喝一杯咖啡。 | 小狗在桌子下面睡觉。 | 你可以帮我吗? | 明天我们一起去海边。"""),
    "ja": ("Japanese", "ja", """きょうは とても いい てんきです。 | えきは どこですか。 |
        ははは パンを つくります。 | いちにちじゅう まちました。 | コーヒーを ください。 |
        いぬが つくえの したで ねています。 | てつだって くれますか。 | あした うみへ いきましょう。"""),
    "ko": ("Korean", "ko", """오늘은 날씨가 아주 좋아요. | 기차역이 어디에 있어요? | 어머니는 빵을 만드세요. |
        우리는 하루 종일 기다렸어요. | 커피 한 잔 주세요. | 강아지가 책상 밑에서 자고 있어요. |
        저를 도와주시겠어요? | 내일 바다에 같이 가요."""),
    "vi": ("Vietnamese", "vi", """Hôm nay trời rất đẹp. | Nhà ga ở đâu vậy? | Mẹ tôi làm bánh mì. |
        Chúng tôi đã đợi cả ngày. | Cho tôi một tách cà phê. | Con chó ngủ dưới bàn. | Bạn có thể giúp tôi không? |
        Ngày mai chúng ta đi biển."""),
    "id": ("Indonesian", "id", """Cuaca hari ini sangat bagus. | Di mana stasiun kereta api? |
        Ibu saya membuat roti. | Kami menunggu sepanjang hari. | Saya mau minum secangkir kopi. |
        Anjing itu tidur di bawah meja. | Bisakah kamu membantu saya? | Besok kita pergi ke pantai."""),
    "sw": ("Swahili", "sw", """Leo hali ya hewa ni nzuri sana. | Kituo cha treni kiko wapi? |
        Mama yangu anapika mkate. | Tulisubiri siku nzima. | Ninataka kikombe cha kahawa. |
        Mbwa analala chini ya meza. | Unaweza kunisaidia tafadhali? | Kesho tutakwenda pwani pamoja."""),
    "et": ("Estonian", "et", """Täna on väga ilus ilm. | Kus asub raudteejaam? | Minu ema küpsetab laupäeval leiba. |
        Me ootasime terve päeva. | Ma sooviksin tassi kohvi. | Koer magab laua all. | Kas sa saaksid mind aidata? |
        Homme läheme koos mere äärde."""),
    "fa": ("Persian", "fa", """امروز هوا خیلی خوب است. | ایستگاه قطار کجاست؟ | مادرم هر شنبه نان می‌پزد. |
        ما تمام روز منتظر بودیم. | یک فنجان قهوه می‌خواهم. | سگ زیر میز خوابیده است. |
        می‌توانی به من کمک کنی؟ | فردا با هم به دریا می‌رویم."""),
    "ka": ("Georgian", "ka", """დღეს ძალიან კარგი ამინდია. | სად არის სადგური? | დედაჩემი პურს აცხობს. |
        მთელი დღე გელოდით. | ერთი ფინჯანი ყავა მინდა. | ძაღლს მაგიდის ქვეშ სძინავს. | შეგიძლია დამეხმარო? |
        ხვალ ერთად მივდივართ ზღვაზე."""),
    "ta": ("Tamil", "ta", """இன்று வானிலை மிகவும் நன்றாக உள்ளது. | ரயில் நிலையம் எங்கே இருக்கிறது? |
        என் அம்மா ரொட்டி செய்கிறார். | நாங்கள் நாள் முழுவதும் காத்திருந்தோம். |
        எனக்கு ஒரு கோப்பை காபி வேண்டும். | நாய் மேசையின் கீழ் தூங்குகிறது. | எனக்கு உதவ முடியுமா? |
        நாளை நாம் கடற்கரைக்குப் போகிறோம்."""),
}

TEMPLATES = (
    "{name} {did} the {adjective} {noun} {place}.",
    "Did {name} really {do} the {noun}?",
    "Please {do} the {adjective} {noun} {time}.",
    "The {noun} {place} looked as {adjective} as the {noun}.",
    "I think that {name} will {do} it {time}.",
    "{time} we {did} one {adjective} {noun}, and {name} {did} another.",
    "Why is the {noun} so {adjective}?",
    "No, {name}, you should not {do} that {noun}!",
    "{number} of them {did} the {noun}.",
)
WORDS = {
    "name": "Mary Bob Peter Emma Victor Paula Martin Sophie Thomas Julia Frank Amy Oliver Beth",
    "noun": "boat apple book bottle window map camera pepper violin wolf bridge mushroom picture jacket ship farm "
        "lemon number problem garden chair river paper house phone basket",
    "adjective": "beautiful heavy small purple warm famous open modern simple perfect blue wooden empty funny smooth "
        "strange",
    "do": "move buy open paint follow improve borrow remember wash choose keep push finish change help visit",
    "did": "moved bought opened painted followed improved borrowed remembered washed chose kept pushed finished "
        "changed helped visited",
    "place": "in the village|under the bridge|by the window|behind the shop|at the beach|from the market|near my "
        "home",
    "time": "today|before breakfast|on Monday|this evening|in the summer|every month|tomorrow",
    "number": "Two|Five|Seven|Most|Many|A few|Half",
}
HELD_OUT_WORDS = {
    "name": "Philip Wanda Simon Abigail Fabian Rebecca Hugo Lucy",
    "noun": "lamb potato hammer feather pump volcano shoebox wave puppet tomato mirror cupboard fountain jewel",
    "adjective": "brave yellow bitter massive polite rough favourite invisible shiny damp",
    "do": "break save bury polish measure whip film sharpen approve avoid",
    "did": "broke saved buried polished measured whipped filmed sharpened approved avoided",
    "place": "on the platform|beside the museum|above the valley|inside the office",
    "time": "at midnight|last February|after work|next weekend",
    "number": "Eleven|Forty|Several|Hardly any",
}
