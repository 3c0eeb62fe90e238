"""Replies from vLLM in this process, in an environment of its own (`pip install vllm`).

The prompts' token ids come from `common.chat`, so that they are those of training here, too;
vLLM is given ids, never text. It caches shared beginnings itself.
"""

from collections.abc import Sequence
from typing import Any

from common.chat import PromptEncoder
from common.errors import Refusal
from eval.prediction.asking import Reply, Request, Sampling
from eval.settings import Settings


class VllmGenerator:
    """`Generator` for vLLM's offline engine."""

    def __init__(self, model: str, settings: Settings) -> None:
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

    def replies(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Reply]]:
        """See `Generator`. A constrained reply is one of the request's answers."""
        prompts = self.encoder.encode([r.system for r in requests], [r.prompt for r in requests])
        outputs = self.engine.generate(
            [{"prompt_token_ids": ids} for ids in prompts],
            [self._parameters(request, sampling) for request in requests],
            use_tqdm=False,
        )
        return [[Reply(o.text, o.finish_reason == "stop") for o in output.outputs] for output in outputs]

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
