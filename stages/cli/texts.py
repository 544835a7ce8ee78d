"""What `align new` says and writes, in English and in Korean."""

from __future__ import annotations

from align.messages import Language

TEXTS = {
    "ask.language": (
        "Language of questions and comments (en, ko)",
        "질문과 주석의 언어 (en, ko)",
    ),
    "ask.base": (
        "Base model: a folder, or a name on the hub",
        "베이스 모델: 폴더 또는 허브 이름",
    ),
    "ask.revision": ("Commit or tag of that model on the hub", "허브에서 그 모델의 커밋 또는 태그"),
    "ask.instructions": (
        "Instructions with good answers, a file (Enter: none)",
        "지시와 모범 답변 파일 (없으면 Enter)",
    ),
    "ask.preferences": (
        "Preference pairs, a file with prompt, chosen, rejected (Enter: none)",
        "선호 쌍 파일: prompt, chosen, rejected (없으면 Enter)",
    ),
    "ask.prompts": (
        "Prompts for PPO and the evaluation, a file (Enter: those of the data above)",
        "PPO와 평가에 쓸 프롬프트 파일 (Enter: 위 데이터의 프롬프트)",
    ),
    "ask.lora": (
        "Train LoRA adapters (lora), or all weights (full)",
        "LoRA 어댑터만 학습(lora) 또는 모든 가중치 학습(full)",
    ),
    "ask.device": (
        "Device (auto: a GPU where there is one; cpu; cuda)",
        "장치 (auto: 있으면 GPU, cpu, cuda)",
    ),
    "found": ("{key}: {path}: {rows} rows, {layout}", "{key}: {path}: {rows}행, {layout}"),
    "embedded": (
        "{key}: none given; those of the embedded world are used (data/tiny)",
        "{key}: 주어지지 않아 내장 데이터를 씁니다 (data/tiny)",
    ),
    "written": (
        "wrote {path}; next: align run {quoted}",
        "{path} 파일을 썼습니다. 다음 명령: align run {quoted}",
    ),
    "header": (
        """\
{name}: written by `align new`. Values are starting points; change what you like.

  align run {quoted}: all stages, then the table and the verdict
  align run {quoted} ppo.iterations=5: any setting, for one call
  align settings ppo: every key with its unit, default and meaning
  align doctor {quoted}: what is missing here

Paths are relative to the folder in which the command runs.""",
        """\
{name}: `align new`가 쓴 레시피입니다. 값은 출발점이니 마음대로 바꾸세요.

  align run {quoted}: 모든 단계를 실행하고 표와 결론을 보여 줍니다
  align run {quoted} ppo.iterations=5: 한 번만 다른 설정으로 실행합니다
  align settings ppo: 모든 설정의 단위, 기본값, 뜻
  align doctor {quoted}: 빠진 것이 있는지 검사합니다

경로는 명령을 실행하는 폴더를 기준으로 합니다.""",
    ),
    "base": ("what SFT starts from", "SFT가 출발하는 모델"),
    "device": ("auto, cpu or cuda", "auto, cpu, cuda 중 하나"),
    "instructions": ("SFT learns these answers", "SFT가 배우는 답변"),
    "chosen": (
        "SFT learns the chosen answers of the pairs",
        "SFT가 선호 쌍의 chosen 답변을 배웁니다",
    ),
    "preferences": ("reward model and DPO learn from pairs", "보상 모델과 DPO가 배우는 선호 쌍"),
    "heldout": (
        "a fifth of the prompts, by a hash of each, that no stage trains on",
        "프롬프트의 5분의 1(해시로 선택)은 어느 단계에서도 학습하지 않습니다",
    ),
    "prompts": (
        "PPO answers these, and learns from the scores",
        "PPO가 답하고 점수로 배우는 프롬프트",
    ),
    "evaluation": (
        "all policies answer these; the report rests on them",
        "모든 모델이 답하며 보고서의 근거가 되는 프롬프트",
    ),
    "lora": ("only small adapters are trained", "작은 어댑터만 학습합니다"),
    "full": ("all weights are trained; `--lora` trains adapters", "모든 가중치를 학습합니다"),
    "max_length": (
        "tokens of a row; longer ones are dropped and counted",
        "한 행의 최대 토큰 수: 더 긴 행은 버리고 그 수를 알립니다",
    ),
    "trainer": (
        """\
passes, batch size and rates are chosen by the number of rows, and told; to set one:
trainer: {{num_train_epochs: 3}}  (all fields: align settings {section}.trainer)""",
        """\
반복 횟수, 배치 크기, 학습률은 행 수에 맞춰 고르고 알려 줍니다. 직접 정하려면:
trainer: {{num_train_epochs: 3}}  (모든 필드: align settings {section}.trainer)""",
    ),
    "iterations": ("rounds of answering and updating", "답변과 갱신을 반복하는 횟수"),
    "kl_coef": (
        "reward per nat of KL to SFT: more stays closer to it",
        "SFT와의 KL 1 nat당 벌점: 클수록 SFT에 가깝게 머뭅니다",
    ),
    "max_new_tokens": ("tokens of an answer, at most", "답변의 최대 토큰 수"),
    "samples": ("answers to each prompt", "프롬프트마다 뽑는 답변 수"),
}
"""{what: (English, Korean)}"""


def text(key: str, language: Language, /, **values: object) -> str:
    return TEXTS[key][language == "ko"].format(**values)
