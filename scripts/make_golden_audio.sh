#!/usr/bin/env bash
# Synthesises the golden recordings: golden/audio/*.wav, mono, 16 bit, 16 kHz (and two at 8 kHz).
#
# Needs espeak-ng and sox (Debian packages of these names). The files are committed; other
# versions of the two programs may give other samples, so run this only to replace them.
set -euo pipefail

out="$(cd "$(dirname "$0")/.." && pwd)/golden/audio"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

# speak NAME VOICE WORDS_PER_MINUTE TEXT: one utterance, silence trimmed from both ends.
speak() {
    espeak-ng -v "$2" -s "$3" -w "$work/$1.raw.wav" "$4"
    sox -R -D "$work/$1.raw.wav" -r 16000 -c 1 -b 16 "$work/$1.wav" \
        norm -6 silence 1 0.01 0.1% reverse silence 1 0.01 0.1% reverse
}

# pause SECONDS: a silent file of that length; prints its path.
pause() {
    local file="$work/pause_$1.wav"
    [ -f "$file" ] || sox -R -D -n -r 16000 -c 1 -b 16 "$file" trim 0 "$1"
    echo "$file"
}

# noise NAME SECONDS KIND LEVEL: KIND is sox's, one or two words; that much noise, peak LEVEL of full scale; prints its path.
noise() {
    sox -R -D -n -r 16000 -c 1 -b 16 "$work/$1.wav" synth "$2" $3 vol "$4"
    echo "$work/$1.wav"
}

# record NAME SECONDS PART...: concatenate, add the noise floor of a quiet room (-70 dB), cut.
# SECONDS may be 0 for no cut. A recording is never digitally silent, and Silero's network is
# badly conditioned there: its float32 result is 2e-5 from its float64 result, against 6e-6 with
# this floor.
record() {
    local name="$1" seconds="$2"
    shift 2
    sox -R -D "$@" -b 16 "$work/$name.clean.wav"
    [ "$seconds" = 0 ] && seconds="$(soxi -D "$work/$name.clean.wav")"
    sox -R -D -m -v 1 "$work/$name.clean.wav" \
        -v 1 "$(noise "$name.floor" "$seconds" whitenoise 0.0005)" \
        -b 16 "$out/$name.wav" trim 0 "$seconds"
}

speak en1 en-us 150 "The quick brown fox jumps over the lazy dog."
speak en2 en-gb 165 "Please call a taxi at seven thirty in the morning."
speak en3 en-us+f3 155 "Thank you, that would be wonderful."
speak en4 en-gb+m3 145 "Every sentence that is spoken here was made by a machine."
speak en5 en-us+f2 170 "Rain is expected in the north, and a light wind from the west."
# In pinyin: Debian's espeak-ng has no dictionary of Chinese characters and spells their codes.
speak zh1 cmn-latn-pinyin 210 "jin1 tian1 tian1 qi4 hen3 hao3, wo3 men5 qu4 gong1 yuan2 san4 bu4."
speak zh2 cmn-latn-pinyin 205 "qing3 wen4 huo3 che1 zhan4 zen3 me5 zou3?"
speak zh3 cmn-latn-pinyin+f2 200 "xie4 xie5 ni3 de5 bang1 zhu4, zai4 jian4."
speak zh4 cmn-latn-pinyin+m3 205 "zhe4 ben3 shu1 shi4 wo3 zuo2 tian1 zai4 tu2 shu1 guan3 jie4 de5."

record english 0 "$(pause 0.8)" "$work/en1.wav" "$(pause 0.9)" "$work/en2.wav" "$(pause 0.7)" \
    "$work/en3.wav" "$(pause 0.6)"
record mandarin 0 "$(pause 0.5)" "$work/zh1.wav" "$(pause 0.8)" "$work/zh2.wav" "$(pause 0.9)" \
    "$work/zh3.wav" "$(pause 0.7)"
cp "$(pause 3.0)" "$out/silence.wav"

# Speech with pink noise 20 dB and a hum of 100 Hz 30 dB below full scale.
sox -R -D "$(pause 0.7)" "$work/en4.wav" "$(pause 0.8)" "$work/en5.wav" "$(pause 0.5)" \
    -b 16 "$work/clean.wav"
length="$(soxi -D "$work/clean.wav")"
sox -R -D -m -v 1 "$work/clean.wav" -v 1 "$(noise pink "$length" pinknoise 0.1)" \
    -v 1 "$(noise hum "$length" "sine 100" 0.03)" -b 16 "$out/noisy.wav"

# One minute: the nine utterances in turn, pauses of 0.3 to 2 seconds, cut to 60 seconds.
parts=()
pauses=(0.4 1.2 0.3 2.0 0.8 0.5 1.6)
order=(en1 zh1 en2 zh2 en3 zh3 en4 zh4 en5)
for turn in 0 1 2; do
    for index in "${!order[@]}"; do
        gap="${pauses[$(((turn * 9 + index) % ${#pauses[@]}))]}"
        parts+=("$(pause "$gap")" "$work/${order[$index]}.wav")
    done
done
record long 60 "${parts[@]}"
# The VAD has another network for telephone speech.
for name in english noisy; do
    sox -R -D "$out/$name.wav" -r 8000 -b 16 "$out/${name}_8k.wav"
done
soxi "$out"/*.wav | grep -E "Input File|Duration|Sample Rate|Channels"
