"""Replies from vLLM in this process, in an environment of its own (`pip install vllm`).

The prompts' token ids come from `common.chat`, so that they are those of training here, too;
vLLM is given ids, never text. It caches shared beginnings itself.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from common.chat import PromptEncoder
from common.errors import Refusal
from eval.prediction.asking import Masses, Reply, Request, Sampling
from eval.settings import ExactSettings, Settings

AT_ONCE = 1024  # requests between two saves; the engine makes its own batches of them


class VllmBackend:
    """`Backend` for vLLM's offline engine."""

    def __init__(self, model: str, settings: Settings) -> None:
        if settings.mode == "exact":
            raise Refusal("--backend vllm can't be exact; use --backend transformers, or --mode sampled")
        try:
            import vllm
        except ImportError:
            raise Refusal(
                "vLLM isn't installed here; install it in an environment of its own (pip install vllm), "
                "or start its server there and use --backend server --url"
            ) from None
        self.vllm: Any = vllm
        self.engine = vllm.LLM(
            model=model,
            dtype=settings.local.dtype,
            seed=settings.seed,
            enable_prefix_caching=settings.local.reuse_prefixes,
        )
        self.encoder = PromptEncoder(self.engine.get_tokenizer(), model)

    def can_enumerate(self, answers: Sequence[int]) -> bool:
        """See `Backend`: none."""
        return False

    def masses(
        self, requests: Sequence[Request], exact: ExactSettings, done: Collection[int] = ()
    ) -> Iterator[tuple[int, Masses | None]]:
        """See `Backend`; refused."""
        raise Refusal("--backend vllm can't be exact; use --backend transformers, or --mode sampled")

    def replies(
        self, requests: Sequence[Request], sampling: Sampling, done: Collection[int] = ()
    ) -> Iterator[tuple[int, list[Reply]]]:
        """See `Backend`. A constrained reply is one of the request's answers."""
        rows = [row for row in range(len(requests)) if row not in done]
        for start in range(0, len(rows), AT_ONCE):
            part = rows[start : start + AT_ONCE]
            prompts = self.encoder.encode(
                [requests[row].system for row in part], [requests[row].prompt for row in part]
            )
            outputs = self.engine.generate(
                [{"prompt_token_ids": ids} for ids in prompts],
                [self._parameters(requests[row], sampling) for row in part],
                use_tqdm=False,
            )
            for row, output in zip(part, outputs, strict=True):
                yield row, [Reply(o.text, o.finish_reason == "stop") for o in output.outputs]

    def _parameters(self, request: Request, sampling: Sampling) -> Any:
        constraint = {}
        if request.answers:
            choices = [str(answer) for answer in request.answers]
            parameters = self.vllm.sampling_params
            constraint = {"structured_outputs": parameters.StructuredOutputsParams(choice=choices)}
        return self.vllm.SamplingParams(
            n=sampling.samples,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            seed=hash(request.seed) & 0x7FFFFFFF,
            stop_token_ids=self.encoder.stop_ids,
            **constraint,
        )
