"""Graphs of ComfyUI of many kinds, made here: which text is the prompt of the picture, and where there is none."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest

from allfour.pipeline.archives.comfy import _sent, prompt_in_graph
from tests.pipeline.archives.comfy_graphs import NEGATIVE, NURSE, desk, encoder, node, read


class TestTexts:
    """What an encoder's text is made of."""

    @pytest.mark.parametrize(
        ("nodes", "prompt"),
        [
            ({}, NURSE),
            ({"n20": node("PrimitiveString", value=NURSE)}, NURSE),
            ({"n20": node("PrimitiveStringMultiline", value=NURSE)}, NURSE),
            ({"n20": node("Text Multiline", text=f"# a note\n{NURSE}")}, NURSE),
            ({"n20": node("CR Text", text=NURSE)}, NURSE),
            ({"n20": node("String Literal", string=NURSE)}, NURSE),
            ({"n20": node("easy positive", positive=NURSE)}, NURSE),
            ({"n20": node("JWStringMultiline", text=NURSE)}, NURSE),
            ({"n20": node("CR Prompt Text", prompt=NURSE)}, NURSE),
            ({"n20": node("ShowText|pysssss", text=["21", 0], text_0="of an earlier run"), "n21": node("Text _O", text=NURSE)}, NURSE),
            ({"n20": node("Reroute", **{"": ["21", 0]}), "n21": node("PrimitiveString", value=NURSE)}, NURSE),
            ({"n20": node("StringConcatenate", string_a="a photo of a ", string_b=["21", 0], delimiter=""),
              "n21": node("PrimitiveString", value="nurse")}, NURSE),
            ({"n20": node("Text Concatenate", delimiter=", ", clean_whitespace="true", text_a=f"{NURSE} ", text_b="",
                          text_c=["21", 0]), "n21": node("Text Multiline", text="hospital")}, f"{NURSE}, hospital"),
            ({"n20": node("CR Text Concatenate", text1="a photo of", text2="a nurse", separator=" ")}, NURSE),
            ({"n20": node("JoinStrings", string1="a photo of", string2="a nurse", delimiter=" ")}, NURSE),
            ({"n20": node("StringFunction|pysssss", action="append", tidy_tags="yes", text_a=NURSE, text_b="hospital",
                          text_c="")}, f"{NURSE}, hospital"),
            ({"n20": node("StringFunction|pysssss", action="replace", tidy_tags="no", text_a="a photo of a JOB",
                          text_b="JOB", text_c="nurse")}, NURSE),
            ({"n20": node("StringReplace", string="a photo of a JOB", find="JOB", replace="nurse")}, NURSE),
            ({"n20": node("StringTrim", string=f"  {NURSE} ", mode="Both")}, NURSE),
            ({"n20": node("CaseConverter", string="A Photo of a Nurse", mode="lowercase")}, NURSE),
            ({"n20": node("SDXLPromptStyler", text_positive=NURSE, text_negative="blurry", style="x")}, NURSE),
            ({"n20": node("SDXLPromptStyler", text_positive=["21", 0], text_negative="blurry", style="x"),
              "n21": node("PrimitiveString", value=NURSE)}, NURSE),
            ({"n20": node("ImpactWildcardProcessor", wildcard_text="a photo of a __job__", populated_text=NURSE,
                          mode="populate", seed=1)}, NURSE),
            ({"n20": node("DPRandomGenerator", text=NURSE, seed=1)}, NURSE),
            ({"n20": node("CR Text Input Switch", Input=2, text1="a dog", text2=["21", 0]),
              "n21": node("PrimitiveString", value=NURSE)}, NURSE),
            ({"n20": node("ImpactSwitch", select=1, input1=["21", 0], input2=["22", 0]),
              "n21": node("PrimitiveString", value=NURSE), "n22": node("PrimitiveString", value="a dog")}, NURSE),
            ({"n20": node("Any Switch (rgthree)", any_01=["21", 0]), "n21": node("PrimitiveString", value=NURSE)}, NURSE),
            ({"n20": node("easy showAnything", text="of an earlier run", anything=["21", 0]),
              "n21": node("PrimitiveString", value=NURSE)}, NURSE),
        ],
    )  # fmt: skip
    def test_followed(self, nodes: dict[str, Any], prompt: str) -> None:
        graph = desk(**nodes) if not nodes else desk(**nodes, n6=encoder(["20", 0]))
        assert read(graph) == prompt

    @pytest.mark.parametrize(
        "maker",
        [
            node("OllamaGenerate", prompt="Describe a nurse", model="m"),
            node("DPRandomGenerator", text="a {doctor|nurse}", seed=1),
            node("ImpactWildcardProcessor", wildcard_text="a __job__", populated_text="", mode="populate", seed=1),
            node("WD14Tagger|pysssss", image=["10", 0], model="m"),
            node("Load Text File", file_path="x.txt"),
            node("RegexReplace", string="a nurse", regex_pattern="n", replace="p"),
            node("Text Random Line", text="a nurse\na dog", seed=1),
            node("ImpactSwitch", select=["30", 0], input1="a nurse", input2="a dog"),
            node("SomethingNew", alpha="a nurse", beta="a dog"),
            node("Prompt Styles Selector", style="a nurse"),
            node("SDPromptReader", image="nurse.png"),
            node("Prompt Builder", text="a nurse", prompt=["6", 0]),
        ],
    )
    def test_not_followed(self, maker: dict[str, Any]) -> None:
        assert read(desk(n6=encoder(["20", 0]), n20=maker)) is None

    def test_a_missing_node(self) -> None:
        assert read(desk(n6=encoder(["99", 0]))) is None


class TestConditioning:
    @pytest.mark.parametrize(
        ("nodes", "prompt"),
        [
            ({"n10": node("ConditioningCombine", conditioning_1=["11", 0], conditioning_2=["6", 0]),
              "n11": encoder("best quality, ")}, f"best quality, {NURSE}"),
            ({"n10": node("ConditioningConcat", conditioning_to=["6", 0], conditioning_from=["11", 0]),
              "n11": encoder("in the rain")}, f"{NURSE}, in the rain"),
            ({"n10": node("ConditioningAverage", conditioning_to=["6", 0], conditioning_from=["11", 0],
                          conditioning_to_strength=0.5), "n11": encoder("a doctor")}, f"{NURSE}, a doctor"),
            ({"n10": node("ConditioningAverage", conditioning_to=["6", 0], conditioning_from=["11", 0],
                          conditioning_to_strength=1.0), "n11": encoder("a doctor")}, NURSE),
            ({"n10": node("ConditioningCombine", conditioning_1=["12", 0], conditioning_2=["13", 0]),
              "n12": node("ConditioningSetArea", conditioning=["6", 0], width=64, height=64, x=0, y=0, strength=1),
              "n13": node("ConditioningSetMask", conditioning=["11", 0], mask=["40", 0], strength=1),
              "n11": encoder("a doctor")}, f"{NURSE}, a doctor"),
            ({"n10": node("ControlNetApply", conditioning=["6", 0], control_net=["41", 0], image=["42", 0], strength=1)}, NURSE),
            ({"n10": node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], control_net=["41", 0],
                          image=["42", 0])}, NURSE),
            ({"n10": node("unCLIPConditioning", conditioning=["6", 0], clip_vision_output=["43", 0], strength=1)}, NURSE),
            ({"n10": node("GLIGENTextBoxApply", text="sun", conditioning_to=["6", 0], clip=["4", 1])}, NURSE),
            ({"n10": node("FluxGuidance", conditioning=["6", 0], guidance=3.5)}, NURSE),
            ({"n10": node("ConditioningSetTimestepRange", conditioning=["6", 0], start=0, end=1)}, NURSE),
            ({"n10": node("StyleModelApply", conditioning=["6", 0], style_model=["44", 0])}, NURSE),
            ({"n10": node("Reroute", **{"": ["6", 0]})}, NURSE),
            ({"n10": node("CLIPTextEncodeSDXL", text_g=NURSE, text_l=NURSE, width=1024, height=1024, clip=["4", 1])}, NURSE),
            ({"n10": node("CLIPTextEncodeSDXL", text_g=NURSE, text_l="photorealistic", clip=["4", 1])}, f"{NURSE}, photorealistic"),
            ({"n10": node("CLIPTextEncodeFlux", clip_l="nurse", t5xxl=NURSE, guidance=3.5, clip=["4", 1])}, NURSE),
            ({"n10": node("CLIPTextEncodeSD3", clip_l="", clip_g="", t5xxl=NURSE, clip=["4", 1])}, NURSE),
            ({"n10": node("TextEncodeQwenImageEdit", prompt=NURSE, clip=["4", 1])}, NURSE),
            ({"n10": node("CLIPTextEncodeLumina2", system_prompt="superior", user_prompt=NURSE, clip=["4", 1])}, NURSE),
            ({"n10": node("ImpactWildcardEncode", wildcard_text="a __x__", populated_text=NURSE, clip=["4", 1])}, NURSE),
            ({"n10": node("smZ CLIPTextEncode", text=NURSE, with_SDXL=False, text_g="", text_l="", clip=["4", 1])}, NURSE),
            ({"n10": node("ConditioningSetDefaultAndCombine", cond=["6", 0], cond_DEFAULT=["11", 0]), "n11": encoder("a room")},
             f"{NURSE}, a room"),
            ({"n10": node("PairConditioningSetPropertiesAndCombine", positive=["6", 0], negative=["7", 0], positive_NEW=["11", 0],
                          negative_NEW=["7", 0]), "n11": encoder("a room")}, f"{NURSE}, a room"),
            ({"n10": node("PairConditioningCombine", positive_A=["6", 0], negative_A=["7", 0], positive_B=["11", 0], negative_B=["7", 0]),
              "n11": encoder("a room")}, f"{NURSE}, a room"),
            ({"n10": node("FromBasicPipe", basic_pipe=["11", 0]), "n11": node("ToBasicPipe", positive=["6", 0], negative=["7", 0])}, NURSE),
            ({"n10": node("Context Big (rgthree)", base_ctx=["11", 0]),
              "n11": node("Context (rgthree)", positive=["6", 0], negative=["7", 0])}, NURSE),
        ],
    )  # fmt: skip
    def test_followed(self, nodes: dict[str, Any], prompt: str) -> None:
        assert read(desk(("10", 0), **nodes)) == prompt

    def test_the_sides_of_a_node_with_both(self) -> None:
        loader = node("Efficient Loader", ckpt_name="m", positive=NURSE, negative=NEGATIVE, empty_latent_width=512)
        graph = desk(("10", 1), n10=loader)
        graph["3"]["inputs"]["negative"] = ["10", 2]
        assert read(graph) == NURSE
        control = node("ApplyInstantID", positive=["6", 0], negative=["7", 0], model=["4", 0], image=["42", 0])
        assert read(desk(("10", 1), n10=control)) == NURSE
        named = {"nodes": [{"id": 10, "outputs": [{"name": "LATENT"}, {"name": "negative"}, {"name": "positive"}]}]}
        odd = node("Odd", positive=["6", 0], negative=["7", 0])
        assert read(desk(("10", 2), n10=odd), named) == NURSE

    def test_what_is_zeroed_says_nothing(self) -> None:
        assert read(desk(("10", 0), n10=node("ConditioningZeroOut", conditioning=["6", 0]))) is None
        parts = {"n10": node("ConditioningCombine", conditioning_1=["11", 0], conditioning_2=["6", 0])}
        assert read(desk(("10", 0), **parts, n11=node("ConditioningZeroOut", conditioning=["7", 0]))) == NURSE

    def test_words_of_every_frame_are_no_prompt(self) -> None:
        schedule = node("BatchPromptSchedule", text='"0": "spring", "12": "winter"', clip=["4", 1])
        assert read(desk(("10", 0), n10=schedule)) is None

    def test_a_part_that_cannot_be_followed(self) -> None:
        parts = {"n10": node("ConditioningCombine", conditioning_1=["11", 0], conditioning_2=["6", 0])}
        assert read(desk(("10", 0), **parts, n11=node("Strange", weight=1))) is None


class TestSamplers:
    def guided(self, guider: dict[str, Any]) -> dict[str, Any]:
        return {
            "5": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
            "6": encoder(NURSE),
            "7": encoder(NEGATIVE),
            "13": node(
                "SamplerCustomAdvanced", noise=["25", 0], guider=["22", 0], sampler=["16", 0], sigmas=["17", 0],
                latent_image=["5", 0],
            ),
            "16": node("KSamplerSelect", sampler_name="euler"),
            "17": node("BasicScheduler", scheduler="simple", steps=20, denoise=1.0, model=["12", 0]),
            "22": guider,
            "25": node("RandomNoise", noise_seed=1),
            "8": node("VAEDecode", samples=["13", 0], vae=["10", 0]),
            "9": node("SaveImage", images=["8", 0]),
        }  # fmt: skip

    @pytest.mark.parametrize(
        "guider",
        [
            node("BasicGuider", model=["12", 0], conditioning=["6", 0]),
            node("CFGGuider", model=["12", 0], positive=["6", 0], negative=["7", 0], cfg=3),
            node("PerpNegGuider", model=["12", 0], positive=["6", 0], negative=["7", 0], empty_conditioning=["7", 0]),
        ],
    )
    def test_guiders(self, guider: dict[str, Any]) -> None:
        assert read(self.guided(guider)) == NURSE

    def test_a_guider_with_two(self) -> None:
        guider = node("DualCFGGuider", model=["12", 0], cond1=["6", 0], cond2=["11", 0], negative=["7", 0])
        assert read(self.guided(guider) | {"11": encoder("in the rain")}) == f"{NURSE}, in the rain"

    def test_a_second_pass_with_a_prompt_of_its_own(self) -> None:
        second = {
            "20": node("LatentUpscale", samples=["3", 0], width=1024, height=1024),
            "21": encoder("a landscape with mountains, much longer than the first one and far more detailed"),
            "22": node("KSampler", seed=2, steps=10, positive=["21", 0], negative=["7", 0], latent_image=["20", 0]),
            "23": node("VAEDecode", samples=["22", 0], vae=["4", 2]),
        }
        graph = {**second, **desk()}  # the second sampler stands first
        graph["9"] = node("SaveImage", images=["23", 0])
        assert read(graph) == NURSE
        graph["10"] = node("SaveImage", images=["8", 0])  # both passes are saved
        assert read(graph) == NURSE

    @pytest.mark.parametrize("conditioning", ["6", "11"])
    def test_two_stages(self, conditioning: str) -> None:
        """The second one has the first one's latent from its conditioning."""
        first = desk()["3"]
        second = node("KSampler", steps=10, seed=1, positive=["10", 0], negative=["11", 0], latent_image=["5", 1])
        stage = node("StableCascade_StageB_Conditioning", conditioning=[conditioning, 0], stage_c=["12", 0])
        zero = node("ConditioningZeroOut", conditioning=["6", 0])
        assert read(desk(n3=second, n10=stage, n11=zero, n12=first)) == NURSE

    def test_a_pipe_from_node_to_node(self) -> None:
        graph = {
            "1": node("easy fullLoader", ckpt_name="m", positive="a dog", negative=NEGATIVE),
            "2": node("easy pipeIn", pipe=["1", 0], pos=["6", 0]), "3": node("easy preSampling", pipe=["2", 0], steps=20, seed=1),
            "4": node("easy kSampler", pipe=["3", 0], image_output="Preview"), "5": node("SaveImage", images=["4", 1]),
            "6": encoder(NURSE),
        }  # fmt: skip
        assert read(graph) == NURSE
        assert read(graph | {"2": node("easy pipeEdit", pipe=["1", 0], optional_positive="a cat")}) is None

    def test_a_loaded_picture_that_no_encoder_had_a_part_in(self) -> None:
        loaded = {"1": node("LoadImage", image="x.png"), "2": node("SaveImage", images=["1", 0]), "3": encoder(NURSE)}
        assert read(loaded) is None

    def test_the_second_pass_over_pixels(self) -> None:
        graph = desk(
            n20=node("ImageUpscaleWithModel", image=["8", 0], upscale_model=["30", 0]),
            n21=node("VAEEncode", pixels=["20", 0], vae=["4", 2]),
            n22=node("KSampler", seed=2, steps=10, positive=["23", 0], negative=["7", 0], latent_image=["21", 0]),
            n23=encoder("sharp"),
            n24=node("VAEDecode", samples=["22", 0], vae=["4", 2]),
            n9=node("SaveImage", images=["24", 0]),
        )
        assert read(graph) == NURSE

    def test_base_and_refiner(self) -> None:
        graph = desk(
            n3=node(
                "KSamplerAdvanced", noise_seed=1, steps=25, positive=["6", 0], negative=["7", 0], latent_image=["5", 0]
            ),
            n20=node(
                "KSamplerAdvanced", noise_seed=1, steps=25, positive=["21", 0], negative=["7", 0], latent_image=["3", 0]
            ),
            n21=node("CLIPTextEncodeSDXLRefiner", ascore=6, width=1024, height=1024, text="refined", clip=["4", 1]),
            n8=node("VAEDecode", samples=["20", 0], vae=["4", 2]),
        )
        assert read(graph) == NURSE

    def test_a_detailer_after_the_sampler(self) -> None:
        face = node("FaceDetailer", image=["8", 0], positive=["21", 0], negative=["7", 0], seed=1, steps=20, cfg=7)
        graph = desk(n20=face, n21=encoder("a detailed face"), n9=node("SaveImage", images=["20", 0]))
        assert read(graph) == NURSE

    def test_a_loaded_picture_worked_over(self) -> None:
        graph = desk(n5=node("VAEEncode", pixels=["20", 0], vae=["4", 2]), n20=node("LoadImage", image="x.png"))
        assert read(graph) == NURSE

    def test_another_sampler_that_is_not_saved(self) -> None:
        other = node("KSampler", seed=1, steps=1, positive=["21", 0], negative=["7", 0], latent_image=["5", 0])
        assert read({"0": other, "21": encoder("a dog"), **desk()}) == NURSE

    def test_two_pictures_with_different_prompts(self) -> None:
        graph = desk(
            n20=node("KSampler", seed=1, steps=1, positive=["21", 0], negative=["7", 0], latent_image=["5", 0]),
            n21=encoder("a dog"),
            n22=node("VAEDecode", samples=["20", 0], vae=["4", 2]),
            n23=node("SaveImage", images=["22", 0]),
        )
        assert read(graph) is None

    def test_pictures_laid_together(self) -> None:
        graph = desk(
            n20=node("KSampler", seed=1, steps=1, positive=["21", 0], negative=["7", 0], latent_image=["5", 0]),
            n21=encoder("a dog"),
            n22=node("LatentComposite", samples_to=["3", 0], samples_from=["20", 0], x=0, y=0),
            n8=node("VAEDecode", samples=["22", 0], vae=["4", 2]),
        )
        assert read(graph) is None

    def test_a_saved_picture_that_no_sampler_made(self) -> None:
        graph = desk(n20=node("LoadImage", image="x.png"), n9=node("SaveImage", images=["20", 0]))
        assert read(graph) is None

    @pytest.mark.parametrize(
        "service",
        [
            node("OpenAIDalle3", prompt=NURSE, seed=1, size="1024x1024"),
            node("FluxProUltraImageNode", prompt=NURSE, prompt_upsampling=False, seed=1),
            node("IdeogramV3", prompt=NURSE, aspect_ratio="1:1"),
            node("RecraftTextToImageNode", prompt=NURSE, negative_prompt=NEGATIVE),
            node("GeminiImageNode", prompt=["6", 0], model="m"),
            node("StabilityStableImageUltraNode", prompt=NURSE, style_preset="None"),
            node("OpenAIGPTImage1", prompt=NURSE, image=["30", 0], quality="low"),
        ],
    )
    def test_partners(self, service: dict[str, Any]) -> None:
        graph = {
            "1": service,
            "2": node("SaveImage", images=["1", 0]),
            "6": node("PrimitiveString", value=NURSE),
            "30": node("LoadImage", image="x.png"),
        }
        assert read(graph) == NURSE

    def test_a_graph_that_saves_nothing(self) -> None:
        graph = {key: value for key, value in desk().items() if key not in ("8", "9")}
        assert read(graph) == NURSE
        guider = {"1": node("BasicGuider", conditioning=["6", 0]), "6": encoder(NURSE), "7": encoder(NEGATIVE)}
        assert read(guider) == NURSE


class TestHostile:
    def test_loops(self) -> None:
        assert read({"1": node("KSampler", positive=["1", 0])}) is None
        assert read(desk(n6=encoder(["20", 0]), n20=node("Reroute", value=["20", 0]))) is None
        assert read(desk(n5=node("VAEEncode", pixels=["8", 0]))) == NURSE
        pair = {
            "n20": node("ConditioningSetArea", conditioning=["21", 0]),
            "n21": node("ConditioningSetArea", conditioning=["20", 0]),
        }
        assert read(desk(("20", 0), **pair)) is None

    def test_a_large_graph_of_services_takes_linear_time(self) -> None:
        start = time.process_time()
        assert read({f"{i}": node("x", prompt="", a=[str(i + 1), 0]) for i in range(1_500)}) is None
        assert time.process_time() - start < 1

    def test_texts_that_grow_take_no_memory(self) -> None:
        replaced = {"n20": node("StringReplace", string="a" * 20_000, find="a", replace="b" * 20_000)}
        many = {f"text_{i}": ["21", 0] for i in range(1_000)}
        joined = {"n20": node("TextConcatenate", **many), "n21": node("PrimitiveString", value="c" * 100_000)}
        tracemalloc.start()
        found = [read(desk(n6=encoder(["20", 0]), **nodes)) for nodes in (replaced, joined)]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found == [None, None] and peak < 2**24

    @pytest.mark.parametrize(
        ("text", "sent"),
        [
            ("a /* b */ nurse // c\n, portrait", "a  nurse \n, portrait"),
            ("a /* nurse", "a /* nurse"),
            ("a /*/ nurse", "a /*/ nurse"),
            ("a // b */ /*\nnurse", "a \nnurse"),
            ("{a|b}", None),
            ("{a} | {b}", "{a} | {b}"),
            ("/* " * 100_000, ("/* " * 100_000).strip()),
            ("{" + "|" * 100_000, "{" + "|" * 100_000),
        ],
    )
    def test_remarks_and_choices_of_the_editor(self, text: str, sent: str | None) -> None:
        assert _sent(text) == sent

    def test_depth_and_doubling(self) -> None:
        chain = {f"n{i}": node("Reroute", value=[str(i + 1), 0]) for i in range(100, 5_000)}
        assert read(desk(("100", 0), **chain)) is None
        doubled = {
            f"n{i}": node("StringConcatenate", string_a=[str(i + 1), 0], string_b=[str(i + 1), 0], delimiter="")
            for i in range(100, 190)
        }
        assert read(desk(n6=encoder(["100", 0]), **doubled, n190=node("PrimitiveString", value="a"))) is None
        wide = {
            f"n{i}": node("ConditioningCombine", conditioning_1=[str(i + 1), 0], conditioning_2=[str(i + 1), 0])
            for i in range(100, 200)
        }
        assert read(desk(("100", 0), **wide, n200=encoder(NURSE))) == NURSE

    @pytest.mark.parametrize(
        "text", ["[" * 100_000, "{", "null", "[]", '{"1": {"class_type": 3}}', '{"1": {"class_type": "KSampler"}}']
    )
    def test_no_graphs(self, text: str) -> None:
        assert prompt_in_graph(text) is None
